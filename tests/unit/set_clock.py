"""A clock that goes on by what sleeps only: a wait of minutes is over at once."""

from __future__ import annotations

import pytest


class SetClock:
    """In the place of `time` where things are waited for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
        self.now = 0.0
        for module in modules:
            monkeypatch.setattr(f"{module}.time", self)

    def monotonic(self) -> float:
        """Seconds since it was set."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """It is later."""
        self.now += seconds
