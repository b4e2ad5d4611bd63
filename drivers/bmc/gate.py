"""One BMC, one conversation at a time, with rests between: a gate per address, shared by the whole process."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from levier.domain.bmc import BmcAddress


class Gate:
    """Lets one conversation with one BMC through at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._not_before = 0.0

    @contextmanager
    def turn(self, *, min_interval_s: float) -> Iterator[None]:
        """The caller alone talks to this BMC, no sooner than the rest after the previous turn allows."""
        with self._lock:
            time.sleep(max(0.0, self._not_before - time.monotonic()))
            try:
                yield
            finally:
                self.rest(min_interval_s)

    def rest(self, seconds: float) -> None:
        """No turn begins within `seconds` from now. Called by the one whose turn it is."""
        self._not_before = max(self._not_before, time.monotonic() + seconds)


class _Gates:
    """All gates of this process by address."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_address: dict[tuple[str, int], Gate] = {}

    def of(self, address: BmcAddress) -> Gate:
        with self._lock:
            return self._by_address.setdefault((address.host.lower(), address.port), Gate())

    def forget(self) -> None:
        """In a forked child: the threads that held these locks do not exist here."""
        self._lock = threading.Lock()
        self._by_address = {}


_GATES = _Gates()
os.register_at_fork(after_in_child=_GATES.forget)


def gate_of(address: BmcAddress) -> Gate:
    """The one gate of this address in this process."""
    return _GATES.of(address)
