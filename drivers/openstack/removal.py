"""Removing things one by one: what one of them refuses does not keep the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Removal:
    """One thing of a service, in words, and the request that removes it."""

    what: str
    request: Callable[[], object]
