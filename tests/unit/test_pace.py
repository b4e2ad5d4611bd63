"""How slow a host is, measured on it: what starts there has the longer for it."""

from __future__ import annotations

import itertools
import subprocess
import time
from dataclasses import dataclass
from typing import cast

import pytest

from drivers.host import complaints
from drivers.host.pace import SLOWEST, USUAL_S, slowness
from levier.domain.errors import Cancelled, Unreachable
from levier.domain.ssh import CommandResult, RemoteHost
from levier.services.polling import wait_for, wait_on


@dataclass
class Here:
    """Commands run on this computer, each after a while: what a slow host's first answer is like."""

    before_s: float = 0.0

    def run(self, command: str, *, timeout_s: float, check: bool) -> CommandResult:
        began = time.monotonic()
        script = f"sleep {self.before_s}; {command}"
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=timeout_s, check=check)
        assert done.stderr == ""
        return CommandResult(done.returncode, done.stdout, done.stderr, time.monotonic() - began)


def test_a_slow_host_is_told_from_one_that_is_not() -> None:
    # The best of three: this computer may stand still during one of them.
    usual = min(slowness(cast(RemoteHost, Here())) for _ in range(3))
    slow = slowness(cast(RemoteHost, Here(before_s=4 * USUAL_S)))
    assert 1.0 <= usual <= SLOWEST
    assert 4.0 < slow <= SLOWEST
    assert slow > usual


def test_a_host_that_stands_still_does_not_stretch_a_limit_without_end() -> None:
    assert slowness(cast(RemoteHost, Here(before_s=(SLOWEST + 1) * USUAL_S))) == SLOWEST


def nothing() -> None:
    """Nobody wants the wait to end."""


def test_what_a_slow_host_does_after_the_usual_limit_is_in_time() -> None:
    ready_at = time.monotonic() + 3.0

    def look() -> bool:
        return time.monotonic() > ready_at

    waited = wait_on(cast(RemoteHost, Here(before_s=4 * USUAL_S)), look, timeout_s=1.0, check=nothing)
    assert waited.seconds is not None
    assert 1.0 < waited.seconds <= waited.limit_s


def test_what_a_host_never_does_is_given_up_with_the_limit_that_it_had() -> None:
    waited = wait_on(cast(RemoteHost, Here(before_s=2 * USUAL_S)), lambda: False, timeout_s=0.5, check=nothing)
    assert waited.seconds is None
    assert 1.0 < waited.limit_s <= SLOWEST * 0.5


def test_a_host_that_became_slower_meanwhile_has_longer_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    now, paces = 0.0, iter([2.0, 4.0])

    def pass_by(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr("levier.services.polling.time.monotonic", lambda: now)
    monkeypatch.setattr("levier.services.polling.time.sleep", pass_by)
    monkeypatch.setattr("levier.services.polling.slowness", lambda _: next(paces))
    waited = wait_on(cast(RemoteHost, Here()), lambda: now > 150.0, timeout_s=50.0, check=nothing)
    assert waited.seconds == pytest.approx(150.0, abs=10.0)
    assert waited.limit_s == 200.0


class Gone:
    """A host that nobody reaches."""

    def run(self, command: str, **_options: object) -> CommandResult:
        raise Unreachable(f"no answer to {command}")


def test_a_host_that_is_gone_has_no_longer_and_who_waits_tells_what_did_not_happen() -> None:
    waited = wait_on(cast(RemoteHost, Gone()), lambda: False, timeout_s=0.5, check=nothing)
    assert (waited.seconds, waited.limit_s) == (None, 0.5)


def test_the_complaints_of_a_host_that_is_gone_are_why_there_are_none() -> None:
    assert "no answer" in complaints(cast(RemoteHost, Gone()), ["clerk.service"])


def test_looks_become_rarer_and_a_wish_to_end_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    now, looked_at = 0.0, list[float]()

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    def check() -> None:
        if now > 600:
            raise Cancelled("enough")

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with pytest.raises(Cancelled):
        wait_for(lambda: looked_at.append(now) is not None, timeout_s=3600, check=check)
    pauses = [round(later - earlier, 6) for earlier, later in itertools.pairwise(looked_at)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (1.0, 10.0)
