"""Waiting for what a host or a service will be."""

from __future__ import annotations

import time
from collections.abc import Callable

INTERVAL_S = 1.0


def wait_for(
    look: Callable[[], bool], *, timeout_s: float, check: Callable[[], None], interval_s: float = INTERVAL_S
) -> float | None:
    """Seconds until `look` was true; None when it was not within `timeout_s`. `check` may end it by raising."""
    began = time.monotonic()
    while True:
        check()
        if look():
            return time.monotonic() - began
        if time.monotonic() - began > timeout_s:
            return None
        time.sleep(interval_s)  # between two looks
