"""Builds in threads of this process. What they make lies on a shelf on disk, so each can be repeated."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from levier.domain.errors import LevierError

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
Tell = Callable[[str], None]
"""Takes one line of progress."""


@dataclass
class Build(Generic[T]):
    """One build, written by its thread and read by the API."""

    lines: list[str] = field(default_factory=list)
    state: str = "running"
    error: str = ""
    hint: str = ""
    result: T | None = None

    def told(self, *, since: int) -> dict[str, Any]:
        """How it goes: `state`, the `lines` from number `since` on, `error` and `hint`. Safe to repeat."""
        state = self.state  # read before the lines, so that an ended build has all of them
        return {"state": state, "lines": self.lines[since:], "error": self.error, "hint": self.hint}

    def run(self, make: Callable[[Tell], T]) -> None:
        """The build has come to its end: `built`, or `failed` with the error."""
        try:
            self.result = make(self.lines.append)
        except LevierError as error:
            self.error, self.hint, self.state = str(error), error.hint, "failed"
        except Exception as error:
            self.error, self.state = f"defect: {type(error).__name__}: {error}", "failed"
            raise
        else:
            self.state = "built"


class Builds(Generic[K, T]):
    """The builds of this process, at most one at a time for each key. Thread-safe."""

    def __init__(self) -> None:
        self._builds: dict[K, Build[T]] = {}
        self._lock = threading.Lock()

    def start(self, key: K, make: Callable[[Tell], T], *, label: str) -> None:
        """A build runs, or did until just now: one that is under way is not begun again. `label` names its thread."""
        with self._lock:
            build = self._builds.get(key)
            if build is None or build.state != "running":
                build = self._builds[key] = Build()
                threading.Thread(target=build.run, args=(make,), name=f"build-{label}", daemon=True).start()

    def get(self, key: K) -> Build[T] | None:
        """The last build of that key; None when this process began none."""
        return self._builds.get(key)
