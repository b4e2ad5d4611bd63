"""Reading single values out of a site document that may be wrong elsewhere.

Cross checks work on the plain document (mappings, lists and scalars) and not on the model, so that they also find what
they can in a file that the model refuses: an operator sees all errors at once (docs/decisions/0050).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from levier.domain.problems import Path, render_path
from levier.domain.site_types import Address

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Located(Generic[T]):
    """A valid value and where it stands."""

    path: Path
    value: T


@dataclass(frozen=True, slots=True)
class Entry:
    """One mapping of a list, such as a node, and where it stands."""

    path: Path
    content: Mapping[str, object]

    def read(self, key: str, kind: Any) -> Located[Any] | None:
        """The value of `key` as `kind`, or None when it is absent, null or not valid by itself."""
        value = self.content.get(key)
        if value is None:
            return None
        try:
            return Located((*self.path, key), adapter(kind).validate_python(value))
        except ValidationError:
            return None

    def lacks(self, key: str) -> bool:
        """Whether `key` is absent or null, rather than wrong."""
        return self.content.get(key) is None

    def entries(self, key: str) -> Iterator[Entry]:
        """The mappings in the list at `key`."""
        items = self.content.get(key)
        for index, item in enumerate(items if isinstance(items, list | tuple) else ()):
            if isinstance(item, Mapping):
                yield Entry((*self.path, key, index), item)

    def inner(self, key: str) -> Entry | None:
        """The mapping at `key`, or None."""
        value = self.content.get(key)
        return Entry((*self.path, key), value) if isinstance(value, Mapping) else None

    def __str__(self) -> str:
        name = self.content.get("name")
        return f"{render_path(self.path)} ({name})" if isinstance(name, str) else render_path(self.path)


@dataclass(frozen=True, slots=True)
class Span:
    """A range of addresses; `first` may be after `last`, since it is what the file says."""

    path: Path
    first: IPv4Address
    last: IPv4Address

    def __contains__(self, address: IPv4Address) -> bool:
        return self.first <= address <= self.last

    def __str__(self) -> str:
        return f"{self.first} to {self.last}"

    @property
    def size(self) -> int:
        """How many addresses it holds."""
        return max(0, int(self.last) - int(self.first) + 1)

    def overlaps(self, other: Span) -> bool:
        """Whether both share an address."""
        return self.first <= other.last and other.first <= self.last


def root_of(document: object) -> Entry:
    """The document as an entry; an empty one when it is no mapping."""
    return Entry((), document if isinstance(document, Mapping) else {})


def read_span(entry: Entry, key: str) -> Span | None:
    """The range at `key`, or None unless both its ends are valid."""
    inner = entry.inner(key)
    first, last = (inner.read("start", Address), inner.read("end", Address)) if inner else (None, None)
    return Span(inner.path, first.value, last.value) if inner and first and last else None


@cache
def adapter(kind: Any) -> TypeAdapter[Any]:
    """The validator of `kind`; building one is slow."""
    return TypeAdapter(kind)
