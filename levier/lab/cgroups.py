"""The control groups of a lab: every process it starts is in one, so that nothing can escape `lab down`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from levier.domain.errors import Conflict, Unsupported

MIRROR_GROUP = "mirror"
"""The group of the lab's package mirror."""
_POLL_S = 0.01
_V1_CONTROLLERS = ("pids", "freezer")


def _mounts() -> Iterator[tuple[Path, str, list[str]]]:
    """Mount point, type and options of every cgroup hierarchy."""
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, where, kind, options, *_ = line.split(" ")
        if kind in ("cgroup", "cgroup2"):
            yield Path(where), kind, options.split(",")


def _hierarchy() -> Path:
    """The hierarchy that labs live in: cgroup 2 where there is one (pure or hybrid), else a version 1 controller."""
    mounts = list(_mounts())
    for where, kind, _ in mounts:
        if kind == "cgroup2":
            return where
    for controller in _V1_CONTROLLERS:
        for where, _, options in mounts:
            if controller in options:
                return where
    raise Unsupported(
        "this machine has no cgroup hierarchy that processes can be tracked in",
        hint="mount cgroup2 on /sys/fs/cgroup (outside of `ip netns exec`, which hides it)",
    )


class CgroupTree:
    """The tree `levier-lab-NAME`. Groups inside it are named by relative paths such as `node/a1-01`."""

    def __init__(self, lab: str) -> None:
        self._name = f"levier-lab-{lab}"
        self._base = _hierarchy() / self._name

    @property
    def exists(self) -> bool:
        """Whether the tree is there (it may be empty)."""
        return self._base.is_dir()

    def create(self, group: str) -> None:
        """The group exists. Safe to repeat."""
        (self._base / group).mkdir(parents=True, exist_ok=True)

    def inside(self, group: str, argv: Sequence[str]) -> list[str]:
        """The command that moves itself into the group and then becomes `argv`, under the same process id."""
        return [
            "sh",
            "-c",
            'echo $$ >"$1" && shift && exec "$@"',
            "sh",
            str(self._base / group / "cgroup.procs"),
            *argv,
        ]

    def pids(self, group: str = "") -> list[int]:
        """The processes in the group and below, without those that are dead but not yet waited for."""
        found: list[int] = []
        for procs in (self._base / group).rglob("cgroup.procs"):
            try:
                found += [int(pid) for pid in procs.read_text(encoding="ascii").split()]
            except (FileNotFoundError, OSError):  # the group went away, or is a threaded one: neither holds processes
                continue
        return [pid for pid in found if not _is_zombie(pid)]

    def kill(self, group: str = "", *, timeout_s: float = 20.0) -> None:
        """No process is left in the group and below. Safe to repeat. Conflict when one cannot be killed in time."""
        deadline = time.monotonic() + timeout_s
        while pids := self.pids(group):
            self._kill_once(group, pids)
            if time.monotonic() > deadline:
                raise Conflict(
                    f"processes {pids} of {self._name} do not die",
                    hint="they hang in the kernel; look at /proc/PID/stack, then run `levier lab down` again",
                )
            time.sleep(_POLL_S)

    def _kill_once(self, group: str, pids: list[int]) -> None:
        # cgroup.kill (Linux 5.14) also catches what is being forked at this moment; elsewhere the caller's loop does.
        whole = self._base / group / "cgroup.kill"
        if whole.exists():
            whole.write_text("1", encoding="ascii")
            return
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def remove(self, group: str = "", *, timeout_s: float = 10.0) -> None:
        """The empty group and everything below it is gone, also what nspawn mirrored into other hierarchies."""
        for where, _, _ in list(_mounts()):
            _remove_tree(where / self._name / group, deadline=time.monotonic() + timeout_s)


def _is_zombie(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat.rpartition(")")[2].split()[0] in ("Z", "X")


def _remove_tree(top: Path, *, deadline: float) -> None:
    """The directories are gone; a group whose last process is still being reaped is busy for a moment."""
    while top.is_dir():
        try:
            for directory, _, _ in os.walk(top, topdown=False):
                os.rmdir(directory)
        except FileNotFoundError:
            continue
        except OSError as error:
            if time.monotonic() > deadline:
                raise Conflict(
                    f"cgroup {top} cannot be removed: {error.strerror}",
                    hint="a process is still in it: see its cgroup.procs",
                ) from error
            time.sleep(_POLL_S)
