"""What the tests of one lane share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any, TypeVar

_Shared = TypeVar("_Shared")


class Lane:
    """What is slow to start, started once for a row of tests, and gone with the last of them."""

    def __init__(self) -> None:
        self._ends = ExitStack()
        self._shared: dict[str, Any] = {}

    def share(self, name: str, start: Callable[[], AbstractContextManager[_Shared]]) -> _Shared:
        """What was started under this name in this lane; the next lane starts its own."""
        if name not in self._shared:
            self._shared[name] = self._ends.enter_context(start())
        shared: _Shared = self._shared[name]
        return shared

    def end(self) -> None:
        """All of it is gone, what was started last first. Safe to repeat."""
        self._shared.clear()
        self._ends.close()
