"""How slow a host is, measured on it: what starts there has the longer for it."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from typing import cast

from drivers.host.pace import SLOWEST, USUAL_S, slowness
from levier.domain.ssh import CommandResult, RemoteHost


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
    usual, slow = slowness(cast(RemoteHost, Here())), slowness(cast(RemoteHost, Here(before_s=4 * USUAL_S)))
    assert 1.0 <= usual <= SLOWEST
    assert 4.0 < slow <= SLOWEST
    assert slow > usual


def test_a_host_that_stands_still_does_not_stretch_a_limit_without_end() -> None:
    assert slowness(cast(RemoteHost, Here(before_s=(SLOWEST + 1) * USUAL_S))) == SLOWEST
