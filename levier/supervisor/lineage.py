"""Which process is which, across crashes: pids with start times, marks in environments, death with the parent."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from levier.domain.errors import LevierError, NotFound

MARK = "LEVIER_SUPERVISED_BY"
"""Environment variable that every supervised process carries and hands down to its own children."""

_PR_SET_PDEATHSIG = 1  # prctl(2), linux/prctl.h
_CLONE_NEWNET = 0x40000000  # setns(2), linux/sched.h
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process and no later one with the same number: pid, start time in clock ticks since boot, and boot id."""

    pid: int
    started_ticks: int
    boot_id: str


def boot_id() -> str:
    """The id of this boot of the kernel, random(4)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def identity_of(pid: int) -> ProcessIdentity | None:
    """The identity of the live process `pid`; None when there is none or only its zombie. Safe to repeat."""
    fields = _stat_fields(pid)
    if fields is None or fields[0] in "ZX":
        return None
    return ProcessIdentity(pid, int(fields[19]), boot_id())


def is_alive(identity: ProcessIdentity) -> bool:
    """Whether exactly this process still runs. Safe to repeat."""
    return identity_of(identity.pid) == identity


def kill(identity: ProcessIdentity, signum: signal.Signals) -> bool:
    """The signal was delivered to exactly this process; False when it is gone. Safe to repeat.

    A pidfd is opened first and the identity compared afterwards, so a recycled pid is never hit (pidfd_open(2)).
    """
    try:
        fd = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return False
    try:
        if not is_alive(identity):
            return False
        signal.pidfd_send_signal(fd, signum)
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)
    return True


def marked(mark: str) -> Iterator[ProcessIdentity]:
    """Every live process, other than this one, whose `MARK` is `mark` or begins with `mark` and a colon."""
    whole, prefix = f"{MARK}={mark}".encode(), f"{MARK}={mark}:".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # it ended meanwhile, or is another user's
            continue
        if any(variable == whole or variable.startswith(prefix) for variable in environment):
            identity = identity_of(int(entry.name))
            if identity is not None:
                yield identity


def end_all(mark: str, *, timeout_s: float = 10.0) -> int:
    """No process carrying `mark` runs any more, this one excepted; how many were killed. Safe to repeat.

    Kills hard: what carries the mark of a supervisor that is gone has nobody left to stop it in order.
    Raises LevierError when one survives.
    """
    killed: set[ProcessIdentity] = set()
    deadline = time.monotonic() + timeout_s
    while survivors := set(marked(mark)):
        for identity in survivors:
            kill(identity, signal.SIGKILL)
        killed |= survivors
        if time.monotonic() > deadline:
            pids = ", ".join(str(each.pid) for each in survivors)
            raise LevierError(
                f"processes {pids} survive SIGKILL", hint="look at their state in `ps`: D means the kernel"
            )
        time.sleep(0.02)
    return len(killed)


def wait_gone(identities: Iterable[ProcessIdentity], *, timeout_s: float) -> list[ProcessIdentity]:
    """Those of `identities` that still run after at most `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    left = [each for each in identities if is_alive(each)]
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left = [each for each in left if is_alive(each)]
    return left


def die_with_parent(parent: int | None = None) -> None:
    """The kernel kills this process when the thread that started it ends, prctl(2) PR_SET_PDEATHSIG.

    `parent` is the pid that must still be the parent; ends this process at once when it already is not.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os._exit(1)


def enter_network_namespace(name: str) -> None:
    """The calling thread is in the named network namespace (ip-netns(8), setns(2)). Safe to repeat.

    Raises NotFound.
    """
    path = f"/run/netns/{name}"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFound(f"there is no network namespace {name!r}", hint="`ip netns list` shows them") from error
    try:
        if _libc.setns(fd, _CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise LevierError(f"cannot enter network namespace {name!r}: {os.strerror(code)}", hint="this needs root")
    finally:
        os.close(fd)


def _stat_fields(pid: int) -> list[str] | None:
    """The fields of proc_pid_stat(5) from the third on (state first), past the name, which may hold anything."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text[text.rindex(")") + 2 :].split()
