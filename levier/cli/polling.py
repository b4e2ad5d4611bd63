"""Waiting for a condition from the command line."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def poll(condition: Callable[[], T | None], *, interval_s: float, timeout_s: float | None = None) -> T:
    """What `condition` returned once it was not None. Raises TimeoutError after `timeout_s`, if given."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        result = condition()
        if result is not None:
            return result
        if deadline is not None and time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(interval_s)  # between two looks at the condition
