"""Waiting for what a host or a service will be."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from drivers.host import slowness
from levier.domain.errors import NotFound, Unreachable
from levier.domain.ssh import RemoteHost

INTERVAL_S = 1.0
_LONGEST_INTERVAL_S = 10.0
_EASE = 0.04
"""Of the time waited so far: who has waited for long need not know to the second, and a look is work for the host."""

_MUCH_LONGER = 1.1
"""A host's pace varies by some percent from one look to the next."""


@dataclass(frozen=True, slots=True)
class Waited:
    """How a wait on a host ended."""

    seconds: float | None
    """Until it was so; None when it was not in time."""
    limit_s: float
    """What was allowed."""


def wait_for(
    look: Callable[[], bool], *, timeout_s: float, check: Callable[[], None], interval_s: float = INTERVAL_S
) -> float | None:
    """Seconds until `look` was true; None when it was not within `timeout_s`. `check` may end it by raising.

    It looks every `interval_s` at first and less often after a while, at least every 10 s.
    """
    began = time.monotonic()
    while True:
        check()
        if look():
            return time.monotonic() - began
        waited_s = time.monotonic() - began
        if waited_s > timeout_s:
            return None
        time.sleep(max(interval_s, _eased(waited_s)))  # between two looks


def _eased(waited_s: float) -> float:
    """How long it may be until the next look, after having waited for so long."""
    return min(_EASE * waited_s, _LONGEST_INTERVAL_S)


def wait_on(host: RemoteHost, look: Callable[[], bool], *, timeout_s: float, check: Callable[[], None]) -> Waited:
    """How waiting for something that the host does has ended. `timeout_s` is for a usual server, a slow one has longer.

    Whether it is slow is asked only once it did not do it in time, and again at the end of that, for it may have become
    slower; one that cannot be reached then has no longer, and what did not happen is told by the caller. `check` may
    end it by raising.
    """
    limit_s = timeout_s
    seconds = wait_for(look, timeout_s=timeout_s, check=check)
    while seconds is None:
        longer_s = timeout_s * _slowness_if_known(lambda: host)
        if longer_s < _MUCH_LONGER * limit_s:
            return Waited(None, limit_s)
        interval_s = max(INTERVAL_S, _eased(limit_s))
        more_s = wait_for(look, timeout_s=longer_s - limit_s, check=check, interval_s=interval_s)
        seconds = None if more_s is None else limit_s + more_s
        limit_s = longer_s
    return Waited(seconds, limit_s)


def wait_while_less(
    look: Callable[[], int | None], *, host: Callable[[], RemoteHost], timeout_s: float, check: Callable[[], None]
) -> Waited:
    """How waiting until nothing is left has ended. `timeout_s` counts from when there was last less than ever before.

    `look` tells how much is left; None when it cannot tell. What `host` does takes a usual server no longer; a slow
    one has longer, as in `wait_on`. `check` may end it by raising.
    """
    began = less = time.monotonic()
    least: int | None = None
    limit_s: float | None = None
    while True:
        check()
        left, now = look(), time.monotonic()
        if left == 0:
            return Waited(now - began, limit_s or timeout_s)
        if left is not None and (least is None or left < least):
            least, less = left, now
        if now - less > (limit_s or timeout_s):
            if limit_s is not None:
                return Waited(None, limit_s)
            limit_s = timeout_s * _slowness_if_known(host)
        time.sleep(max(INTERVAL_S, _eased(now - less)))  # between two looks


def _slowness_if_known(host: Callable[[], RemoteHost]) -> float:
    """1 where the host cannot be reached: what did not happen is told by the caller."""
    try:
        return slowness(host())
    except (Unreachable, NotFound):
        return 1.0
