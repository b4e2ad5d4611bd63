"""Runs the functions of apt.sh on a host."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from importlib import resources

from drivers.packages.apt_answers import parse_installed
from drivers.packages.apt_errors import LOCKED, busy_error
from levier.domain.errors import InvalidRequest, Rejected
from levier.domain.packages import InstalledPackages
from levier.domain.ssh import CommandResult, RemoteHost

_NOT_BEGUN = 74
"""Status of `work` in apt.sh when the unit could not be prepared."""


@dataclass(frozen=True, slots=True)
class AptLimits:
    """How long things may take, and what is to stay free."""

    lock_s: float = 120.0
    """Seconds that a run waits for whoever else holds the packages."""
    read_s: float = 120.0
    """Seconds for what changes nothing."""
    refresh_s: float = 300.0
    """Seconds for the lists of all mirrors."""
    work_s: float = 1800.0
    """Seconds for fetching, installing or removing."""
    reserve_mib: int = 128
    """MiB that are to stay free: packages' scripts make data of their own."""

    def __post_init__(self) -> None:
        if min(self.lock_s, self.read_s, self.refresh_s, self.work_s) <= 0 or self.reserve_mib < 0:
            raise InvalidRequest(f"a limit is not positive: {self}", hint="Give seconds above zero.")


def _text(name: str) -> str:
    return resources.files("drivers.packages").joinpath(name).read_text(encoding="utf-8")


class AptShell:
    """The functions of apt.sh on one host, which errors call `name`."""

    def __init__(self, host: RemoteHost, *, name: str, limits: AptLimits) -> None:
        self.host = host
        self.name = name
        self.limits = limits

    def read(self, function: str, *arguments: str, check: bool = True) -> CommandResult:
        """A function that changes nothing has ended. Safe to repeat. Raises Rejected on another status, if `check`."""
        call = shlex.join([function, *arguments])
        result = self.host.run(f"{_text('apt.sh')}\n{call}\n", timeout_s=self.limits.read_s, check=False)
        return self._checked(function, result) if check else result

    def _checked(self, function: str, result: CommandResult) -> CommandResult:
        if result.exit_status:
            said = (result.stderr or result.stdout).strip()[-500:]
            raise Rejected(
                f"{self.name}: {function} failed with status {result.exit_status}: {said}",
                hint="Check on the host that dpkg and apt are whole.",
            )
        return result

    def work(self, script: str, *, limit_s: float) -> CommandResult:
        """The unit has ended in which `script` ran, which may use the functions of apt_work.sh.

        Raises Busy when something else held the packages for too long; OutcomeUnknown when the connection was lost (the
        unit then goes on, and the next call waits for it). Other statuses are the caller's to judge.
        """
        lock_s, whole_s = round(self.limits.lock_s), round(limit_s + self.limits.lock_s)
        texts = {"policy_text": _text("policy.sh"), "script": f"{_text('apt_work.sh')}\n{script}\n"}
        setup = "".join(f"{name}={shlex.quote(text)}\n" for name, text in texts.items())
        # As long as the unit may take, and what it may wait for before.
        result = self.host.run(
            f"{_text('apt.sh')}\n{setup}work {lock_s} {whole_s}\n", timeout_s=lock_s + whole_s + 30, check=False
        )
        if result.exit_status == LOCKED:
            raise busy_error(self.name, result.stdout)
        if result.exit_status == _NOT_BEGUN:
            raise Rejected(
                f"{self.name}: work on packages cannot be begun: {result.stderr.strip()[-300:]}",
                hint="Check that /etc/levier and /run can be written on the host, and that there is space.",
            )
        return result

    def installed(self, *, wait_s: float | None = None) -> InstalledPackages:
        """The package database while no unit works on it. Safe to repeat.

        One whose worker is gone is waited for, `lock_s` unless told otherwise: what is read under its hands is true for
        a moment only. Raises Busy when that takes too long.
        """
        wait = round(self.limits.lock_s if wait_s is None else wait_s)
        result = self.host.run(
            f"{_text('apt.sh')}\ninstalled {wait}\n", timeout_s=wait + self.limits.read_s, check=False
        )
        if result.exit_status == LOCKED:
            raise busy_error(self.name, result.stdout)
        return parse_installed(self._checked("installed", result).stdout)
