"""Takes a lab down from what is on the disk and in the kernel, whether its daemon lives or was killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from levier.domain.errors import Conflict, DriverError, Rejected
from levier.lab.cgroups import CgroupTree
from levier.lab.chassis.nspawn import forget_container
from levier.lab.commands import run_program
from levier.lab.control import ask
from levier.lab.layout import Layout
from levier.lab.network import delete_network, foreign_pids, namespace_exists
from levier.lab.spec import RackSpec
from levier.lab.sysctl import restore_inotify_limit

_STOP_S = 20.0
_POLL_S = 0.05


def leftovers(name: str, layout: Layout) -> list[str]:
    """What is there of a lab of this name or in this directory, in words; empty when it is down."""
    found = []
    if layout.spec.exists():
        found.append(f"the description {layout.spec}")
    if pids := daemons(layout):
        found.append(f"the daemon, process {', '.join(map(str, pids))}")
    if not _in_kernel(layout):
        return found
    if namespace_exists(f"levier-{name}"):
        found.append(f"the network namespace levier-{name}")
    cgroups = CgroupTree(name)
    if cgroups.exists:
        found.append(f"control groups with {len(cgroups.pids())} processes")
    return found


def take_down(name: str, layout: Layout, *, keep: bool = False) -> bool:
    """Nothing of the lab is left: process, namespace, mount, control group, loop device, interface, file.

    With `keep` the ledger, the console logs, and the logs of daemon and mirror stay. Safe to repeat; True if there
    was anything.
    Raises Conflict when something cannot be ended, with what it is.
    """
    found = leftovers(name, layout)
    _stop_politely(layout)
    if _in_kernel(layout):
        _take_down_kernel(name, layout, foreign=bool(found))
    else:
        _kill_daemons(layout)
    _remove_files(layout, keep=keep)
    return bool(found)


def _in_kernel(layout: Layout) -> bool:
    """Whether such a lab has namespaces, control groups and mounts, or may have: not a `stub` one, nor without root."""
    if os.geteuid() != 0:
        return False
    if not layout.spec.exists():
        return True
    return not RackSpec.from_json(layout.spec.read_text(encoding="utf-8")).stub


def _take_down_kernel(name: str, layout: Layout, *, foreign: bool) -> None:
    cgroups = CgroupTree(name)
    cgroups.kill()
    if foreign:
        _end_foreign_processes(f"levier-{name}")
    _release_disks(layout)
    delete_network(f"levier-{name}")
    cgroups.remove()
    restore_inotify_limit(name)
    _forget_containers(layout)
    _kill_daemons(layout)


def daemons(layout: Layout) -> list[int]:
    """The daemons of the lab in this directory, found by how they were started, so also when its files are gone."""
    wanted = f"--dir\0{layout.root}\0".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue  # ended while we looked, or hidden from us
        if b"\0levier.lab.daemon\0" in command and command.endswith(wanted):
            found.append(int(process.name))
    return found


def _kill_daemons(layout: Layout, *, timeout_s: float = 10.0) -> None:
    """No daemon of this lab runs; what it ran for `stub` machines ends with it."""
    deadline = time.monotonic() + timeout_s
    while pids := daemons(layout):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise Conflict(f"the daemon, process {pids}, does not die", hint="look at /proc/PID/stack")
        time.sleep(_POLL_S)


def _stop_politely(layout: Layout) -> None:
    """The daemon, if it answers, has powered everything off and written its last ledger entries."""
    try:
        ask(layout.control, {"op": "stop"}, timeout_s=5)
    except DriverError:
        return
    deadline = time.monotonic() + _STOP_S
    while daemons(layout) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _end_foreign_processes(namespace: str) -> None:
    """Nobody is in the namespace any more: whoever was brought into it by other means gets SIGTERM, then SIGKILL."""
    for number, patience_s in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
        pids = [pid for pid in foreign_pids(namespace) if pid != os.getpid()]
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + patience_s
        while pids and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            pids = [pid for pid in foreign_pids(namespace) if pid != os.getpid()]
        if not pids:
            return
    raise Conflict(f"processes {pids} stay in {namespace}", hint="end them, then run `levier lab down` again")


def _release_disks(layout: Layout, *, timeout_s: float = 10.0) -> None:
    """No loop device holds a disk of this lab. The kernel lets go of them shortly after the last mount ended."""
    deadline = time.monotonic() + timeout_s
    while held := list(_loop_devices(layout.nodes)):
        for device in held:
            with contextlib.suppress(Rejected):  # in use, or gone meanwhile: the next look tells
                run_program(["losetup", "--detach", f"/dev/{device}"])
        if time.monotonic() > deadline:
            raise Conflict(
                f"{', '.join(held)} still hold disks below {layout.nodes}",
                hint="unmount them (`findmnt`), detach them with `losetup -d`, then run `levier lab down` again",
            )
        time.sleep(_POLL_S)


def _loop_devices(below: Path) -> Iterator[str]:
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            file = backing.read_text(encoding="utf-8").strip()
        except OSError:
            continue  # detached while we looked
        if Path(file.removesuffix(" (deleted)")).is_relative_to(below):
            yield backing.parts[3]


def _forget_containers(layout: Layout) -> None:
    if layout.spec.exists():
        rack = RackSpec.from_json(layout.spec.read_text(encoding="utf-8"))
        for node in rack.nodes:
            forget_container(rack, node)


def _remove_files(layout: Layout, *, keep: bool) -> None:
    """The lab's own files are gone, and its directory if nothing else is in it."""
    kept = {layout.ledger, layout.daemon_log, layout.mirror_log} if keep else set()
    if keep:
        for node in [path for path in layout.nodes.glob("*") if path.is_dir()]:
            for file in [path for path in node.iterdir() if path != layout.console(node.name)]:
                _remove(file)
    else:
        _remove(layout.nodes)
    for file in layout.files():
        if file not in kept:
            file.unlink(missing_ok=True)
    layout.state.with_suffix(".new").unlink(missing_ok=True)
    if layout.root.is_dir() and not any(layout.root.iterdir()):
        layout.root.rmdir()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
