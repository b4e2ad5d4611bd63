"""Waiting for a host: until it answers, and until it runs another boot."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Protocol

from levier.domain.errors import Busy, DriverError, MalformedReply, OutcomeUnknown, Unreachable
from levier.domain.ssh import CommandResult

_POLL_S = 0.5
_PROBE_TIMEOUT_S = 10.0
_BOOT_ID = "cat /proc/sys/kernel/random/boot_id"
_REBOOT = "systemctl reboot"

_NOT_YET = (Unreachable, OutcomeUnknown, Busy, MalformedReply)
"""What a host that is going down or coming up answers. Not AuthFailed: waiting does not mend a wrong key."""


class Runner(Protocol):
    """The one capability that waiting needs."""

    def run(self, command: str, *, timeout_s: float = 60.0, check: bool = True, stdin: bytes = b"") -> CommandResult:
        """The command ended."""
        ...


def wait_until_up(host: Runner, *, timeout_s: float, check: Callable[[], None]) -> None:
    """The host ran a command that changes nothing. Safe to repeat; raises the last error after `timeout_s` (s).

    `check` is called before every attempt; what it raises ends the waiting.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        check()
        try:
            host.run("true", timeout_s=_PROBE_TIMEOUT_S)
            return
        except _NOT_YET as error:
            if time.monotonic() + _POLL_S > deadline:
                raise _gave_up(error, timeout_s) from error
        time.sleep(_POLL_S)


def reboot_and_wait(host: Runner, *, timeout_s: float, drop_connection: Callable[[], None]) -> str:
    """The host runs a boot with another boot id, which is returned. NOT safe to repeat.

    Source: /proc/sys/kernel/random/boot_id is drawn anew by the kernel at every boot (random(4)).
    """
    deadline = time.monotonic() + timeout_s
    before = _boot_id(host)
    # The host cuts the connection as it goes down: the boot id tells what became of it.
    with contextlib.suppress(OutcomeUnknown):
        host.run(_REBOOT, timeout_s=_PROBE_TIMEOUT_S)
    drop_connection()
    last: DriverError | None = None
    while time.monotonic() < deadline:
        try:
            if (now := _boot_id(host)) != before:
                return now
            last = None
        except _NOT_YET as error:
            last = error
        time.sleep(_POLL_S)
    state = f"it does not answer: {last}" if last else f"it still runs boot {before}"
    raise OutcomeUnknown(
        f"no new boot {timeout_s:g} s after the reboot was asked for; {state}",
        hint="Look at the machine's console; power-cycle it through its BMC if it hangs.",
    )


def _boot_id(host: Runner) -> str:
    boot_id = host.run(_BOOT_ID, timeout_s=_PROBE_TIMEOUT_S).stdout.strip()
    if not boot_id:
        raise MalformedReply("the host's boot id is empty", hint="Check that /proc is mounted there.")
    return boot_id


def _gave_up(error: DriverError, timeout_s: float) -> DriverError:
    return type(error)(f"not up after {timeout_s:g} s; last: {error.message}", hint=error.hint)
