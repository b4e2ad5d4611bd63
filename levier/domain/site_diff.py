"""What changed between two sites, entry by entry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, JsonValue

from levier.domain.site import Site


class ChangeKind(StrEnum):
    """What happened to a value."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


class Change(BaseModel):
    """One difference. `before` is None for what was added, `after` for what was removed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    """Such as `nodes[a1-01].bmc.address`: entries are known by their names, not by their place in the file."""
    kind: ChangeKind
    before: JsonValue = None
    after: JsonValue = None


def diff_sites(old: Site, new: Site) -> tuple[Change, ...]:
    """Every difference, ordered by section and name; empty exactly when both have the same canonical form. Pure.

    An entry that came or went is one change with its whole content; inside an entry that stayed every value is one.
    """
    return tuple(_mapping("", _plain(old), _plain(new)))


def _plain(site: Site) -> dict[str, JsonValue]:
    return site.model_dump(mode="json", exclude_none=True)


def _differences(path: str, old: JsonValue, new: JsonValue) -> Iterator[Change]:
    if old == new and type(old) is type(new):
        return
    if isinstance(old, dict) and isinstance(new, dict):
        yield from _mapping(path, old, new)
        return
    old_entries, new_entries = _entries(old), _entries(new)
    if old_entries is not None and new_entries is not None:
        yield from _named(path, old_entries, new_entries)
    else:
        yield Change(path=path, kind=ChangeKind.CHANGED, before=old, after=new)


def _mapping(path: str, old: Mapping[str, JsonValue], new: Mapping[str, JsonValue]) -> Iterator[Change]:
    for key in [*old, *(key for key in new if key not in old)]:
        yield from _member(_child(path, key), old, new, key)


def _named(path: str, old: Mapping[str, JsonValue], new: Mapping[str, JsonValue]) -> Iterator[Change]:
    for name in sorted({*old, *new}):
        yield from _member(f"{path}[{name}]", old, new, name)


def _member(path: str, old: Mapping[str, JsonValue], new: Mapping[str, JsonValue], key: str) -> Iterator[Change]:
    if key not in old:
        yield Change(path=path, kind=ChangeKind.ADDED, after=new[key])
    elif key not in new:
        yield Change(path=path, kind=ChangeKind.REMOVED, before=old[key])
    else:
        yield from _differences(path, old[key], new[key])


def _entries(value: JsonValue) -> dict[str, JsonValue] | None:
    """The list's mappings by their names; None unless it is a list of named mappings only."""
    if not isinstance(value, list):
        return None
    named: dict[str, JsonValue] = {}
    for item in value:
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str):
            return None
        named[name] = item
    return named


def _child(path: str, key: str) -> str:
    plain = all(each.isalnum() or each in "_-" for each in key)
    if not plain:
        return f'{path}["{key}"]'
    return f"{path}.{key}" if path else key
