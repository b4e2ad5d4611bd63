"""Finds and signals the dnsmasq that runs with one configuration, from whichever process, and never another one."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from drivers.netboot.dnsmasq_config import DnsmasqConfig


@dataclass(frozen=True, slots=True)
class RunningDnsmasq:
    """A process held by a pidfd: a signal can hit this process only, even if its number is used again."""

    pid: int
    pidfd: int

    def signal(self, number: signal.Signals) -> None:
        """The signal was sent; nothing happens when the process has just ended."""
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            return

    def ended_within(self, timeout_s: float) -> bool:
        """Whether the process ended before `timeout_s` were over."""
        poller = select.poll()
        poller.register(self.pidfd, select.POLLIN)
        return bool(poller.poll(timeout_s * 1000))


@contextmanager
def running_dnsmasq(config: DnsmasqConfig) -> Iterator[RunningDnsmasq | None]:
    """The process named by the pid file, if it is a dnsmasq with just this configuration file; otherwise None."""
    pidfd = -1
    try:
        pid = int(config.files.pid.read_text())
        pidfd = os.pidfd_open(pid)
    except (FileNotFoundError, ProcessLookupError, ValueError):
        yield None
        return
    try:
        # Looked at after the pidfd was opened: what is read here is the process the pidfd holds, or the next one
        # with its number, and then the pidfd is dead and signals go nowhere.
        yield RunningDnsmasq(pid=pid, pidfd=pidfd) if _is_ours(pid, config) else None
    finally:
        os.close(pidfd)


def end(process: RunningDnsmasq, *, patience_s: float = 5.0) -> None:
    """The process has ended: asked to, and killed after `patience_s`."""
    process.signal(signal.SIGTERM)
    if not process.ended_within(patience_s):
        process.signal(signal.SIGKILL)
        process.ended_within(patience_s)


def command_line(config: DnsmasqConfig) -> list[str]:
    """What starts dnsmasq with this configuration; `ip netns exec` becomes dnsmasq, it does not stay above it."""
    command = ["dnsmasq", f"--conf-file={config.files.config}"]
    return ["ip", "netns", "exec", config.netns, *command] if config.netns else command


def _is_ours(pid: int, config: DnsmasqConfig) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            arguments = file.read().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    wanted = f"--conf-file={config.files.config}".encode()
    return os.path.basename(arguments[0]) == b"dnsmasq" and wanted in arguments
