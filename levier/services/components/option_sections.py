"""What namespaces.yaml says of the sections of configuration files, where oslo-config-generator says nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from ruamel.yaml import YAML

from levier.domain.component_settings import KnownOptions
from levier.domain.named_sections import NamingOption
from levier.services.components.loading import SHIPPED

OPTIONS = SHIPPED / "options"
NAMESPACES = OPTIONS / "namespaces.yaml"
AUTHTOKEN = "keystone_authtoken"
"""The section whose options depend on the way of logging in; the validator passes over it for that reason."""


def namespaces() -> dict[str, list[str]]:
    """The namespaces of options by program. Read once per process."""
    found: dict[str, list[str]] = _declared()["namespaces"]
    return found


def foreign_sections(program: str) -> Mapping[str, tuple[str, ...]]:
    """Sections of a program that no generator lists, and those whose options they have. Read once per process."""
    return {name: tuple(alike) for name, alike in _declared()["foreign_sections"].get(program, {}).items()}


def login_sections(program: str) -> frozenset[str]:
    """Sections of a program's files that have the options of the login by password. Read once per process."""
    return frozenset({AUTHTOKEN, *_declared()["login_sections"].get(program, ())})


def password_login() -> frozenset[str]:
    """The options of the login by password. Read once per process."""
    return frozenset(_declared()["password_login"])


def naming_options() -> dict[str, tuple[NamingOption, ...]]:
    """By program, the options whose values name further sections. Read once per process."""
    return {
        program: tuple(
            NamingOption(
                section=each["section"],
                option=each["option"],
                prefixes=tuple(each.get("prefixes", ("",))),
                alike=tuple(each.get("alike", ())),
            )
            for each in listed
        )
        for program, listed in _declared()["naming_options"].items()
    }


def with_foreign_sections(lists: KnownOptions) -> KnownOptions:
    """The options of a series, with the sections that no generator lists; an empty set where unknown. Pure."""
    return {
        program: {
            **{name: _options_of(alike, program, lists) for name, alike in foreign_sections(program).items()},
            **sections,
        }
        for program, sections in lists.items()
    }


def _options_of(alike: Iterable[str], program: str, lists: KnownOptions) -> frozenset[str]:
    pairs = [(owner or program, section) for owner, _, section in (each.rpartition("/") for each in alike)]
    return frozenset[str]().union(*(lists.get(owner, {}).get(section, ()) for owner, section in pairs))


@cache
def _declared() -> dict[str, Any]:
    content: dict[str, Any] = YAML(typ="safe", pure=True).load(NAMESPACES.read_text(encoding="utf-8"))
    return content
