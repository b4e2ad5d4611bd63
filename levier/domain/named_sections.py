"""Sections of configuration files whose names are an operator's: what other options' values call them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NamingOption:
    """An option whose value names further sections of its file, such as `enabled_backends = ceph, lvm`."""

    section: str
    option: str
    prefixes: tuple[str, ...] = ("",)
    """What stands before a name in the heading of its section: one of these."""
    alike: tuple[str, ...] = ()
    """The sections whose options those sections have; without any, they are not known."""

    def names(self, sections: Mapping[str, object]) -> Iterator[str]:
        """The sections that the option, where `sections` of one file have it, names. Pure."""
        options = sections.get(self.section)
        value = options.get(self.option) if isinstance(options, Mapping) else None
        for each in value if isinstance(value, list) else [value]:
            words = each.split(",") if isinstance(each, str) else ()
            # A name may have its type behind it, as in NAME:TYPE.
            found = (word.split(":", 1)[0].strip() for word in words)
            yield from (prefix + name for name in found if name for prefix in self.prefixes)


def named_sections(
    contents: Iterable[Mapping[str, object]],
    naming: Iterable[NamingOption],
    known: Mapping[str, frozenset[str]],
) -> dict[str, frozenset[str]]:
    """The sections that are named in any of the `contents` of one file, with their options. Pure.

    `known` is section → options of the program; an empty set means that the options are not known.
    """
    found: dict[str, frozenset[str]] = {}
    everything = tuple(contents)
    for each in naming:
        options = frozenset[str]().union(*(known.get(section, ()) for section in each.alike))
        for sections in everything:
            found |= dict.fromkeys(each.names(sections), options)
    return found
