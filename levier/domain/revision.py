"""Configuration revisions: immutable, numbered snapshots of what the operator wants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Revision:
    """One revision. Two with the same content do not exist one after the other."""

    number: int
    digest: str
    """SHA-256 of the canonical JSON of `content`, lower-case hexadecimal."""
    content: Mapping[str, Any]
    source: str
    """The text it came from, comments and all."""
    who: str
    at: datetime
