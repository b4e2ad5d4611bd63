"""Waiting for a store that is away: an operation pauses and goes on, nothing is counted, nothing is given up.

What waits is a single call of a store, never a step: a step that found the database away has not failed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ParamSpec, TypeVar, cast

import tenacity

from levier.domain.errors import StoreUnavailable

P = ParamSpec("P")
T = TypeVar("T")

LIMIT_S = 4 * 3600.0
"""Generous: the flow run fails after it, and recovery takes the operation up again once there is a database."""


_FIRST_S, _LONGEST_S = 0.25, 5.0
"""The first pause; doubled up to the longest one, which is what an ended outage costs at most."""


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def _tell_nobody(_message: str) -> None:
    """Whoever waits without a listener waits silently."""


class _Outage:
    """What the threads of a worker know of the present outage, so that it is told once and not by each of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: float | None = None

    def seen(self, error: StoreUnavailable, tell: Callable[[str], None], now: float) -> None:
        with self._lock:
            if self._since is not None:
                return
            self._since = now
        tell(f"waiting: {error}. Nothing is commanded meanwhile. Way out: {error.hint}")

    def over(self, tell: Callable[[str], None], now: float) -> None:
        """To be called by whoever waited itself: a look that succeeds says nothing about a database that is full."""
        with self._lock:
            since, self._since = self._since, None
        if since is not None:
            tell(f"the database is back after {now - since:.0f} s: going on")


@dataclass(frozen=True)
class StorePatience:
    """How long and how to wait for a store, shared by all the threads of one worker.

    `wait` sleeps the seconds given and says whether to give up at once; `tell` gets a line when an outage begins and
    one when it ends; `clock` counts seconds.
    """

    limit_s: float = LIMIT_S
    wait: Callable[[float], bool] = _sleep
    tell: Callable[[str], None] = _tell_nobody
    clock: Callable[[], float] = time.monotonic
    _outage: _Outage = field(default_factory=_Outage, init=False, repr=False, compare=False)

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `function` returned, called again until the store answers. `function` must be safe to repeat.

        Raises StoreUnavailable when waiting does not help (a missing schema), after `limit_s`, or told to give up.
        """
        try:
            return function(*args, **kwargs)
        except StoreUnavailable as error:
            if error.lasting:
                raise
            self._outage.seen(error, self.tell, self.clock())
        result = self._retrying()(function, *args, **kwargs)
        self._outage.over(self.tell, self.clock())
        return result

    def _retrying(self) -> tenacity.Retrying:
        began, give_up = self.clock(), False

        def sleep(seconds: float) -> None:
            nonlocal give_up
            give_up = self.wait(seconds)

        sleep(_FIRST_S)
        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(_passing),
            wait=tenacity.wait_exponential(multiplier=_FIRST_S, max=_LONGEST_S),
            stop=lambda _: give_up or self.clock() - began >= self.limit_s,
            sleep=sleep,
            reraise=True,
        )


def patient(store: T, patience: StorePatience) -> T:
    """`store` with every method called by `patience`; each of them must be safe to repeat, as the stores' are."""
    return cast("T", _Patient(store, patience))


class _Patient:
    def __init__(self, store: object, patience: StorePatience) -> None:
        self._store = store
        self._patience = patience

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return partial(self._patience.call, found) if callable(found) else found


def _passing(error: BaseException) -> bool:
    return isinstance(error, StoreUnavailable) and not error.lasting
