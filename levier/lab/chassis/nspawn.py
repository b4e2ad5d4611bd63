"""The `nspawn` chassis: firmware in a process of its own, operating systems as containers."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from pathlib import Path

from levier.domain.bmc import BootDevice
from levier.domain.errors import NotFound
from levier.lab.cgroups import CgroupTree
from levier.lab.chassis import Boot, BootEnd, EndReason, Written
from levier.lab.firmware import POWER_OFF, REBOOT, machine_name
from levier.lab.guest.events import WRITTEN
from levier.lab.layout import Layout
from levier.lab.ledger import EventKind, Record
from levier.lab.spec import NodeSpec, RackSpec

_PROPAGATION = Path("/run/systemd/nspawn/propagate")
_PROGRAMS = {
    "systemd-nspawn": "systemd-container",
    "busybox": "busybox",
    "zstd": "zstd",
    "sfdisk": "fdisk",
    "unshare": "util-linux",
    "ethtool": "ethtool",
}


class NspawnChassis:
    """One machine whose firmware, and later its operating system, is a process tree in its own control group.

    Pulling the plug kills the group: the namespaces, mounts and the loop device inside end with its last process.
    """

    def __init__(self, *, rack: RackSpec, node: NodeSpec, layout: Layout, cgroups: CgroupTree, record: Record) -> None:
        self._rack = rack
        self._node = node
        self._layout = layout
        self._cgroups = cgroups
        self._record = record
        self._group = f"node/{node.name}"
        self._process: asyncio.subprocess.Process | None = None
        self._listener: asyncio.Task[None] | None = None
        self._os_runs = False
        self._written = 0
        self._device: BootDevice | None = None

    @property
    def pid(self) -> int | None:
        """The firmware's process id, which is nspawn's once the operating system runs."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else None

    async def start(self, boot: Boot) -> None:
        """The firmware runs."""
        self._cgroups.create(self._group)
        self._written, self._os_runs, self._device = 0, False, boot.device
        reading, writing = os.pipe()
        try:
            with self._layout.console(self._node.name).open("ab") as console:
                self._process = await asyncio.create_subprocess_exec(
                    *self._cgroups.inside(self._group, self._command(boot, events_fd=writing)),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=console,
                    stderr=console,
                    pass_fds=[writing],
                )
        finally:
            os.close(writing)
        self._listener = asyncio.create_task(self._listen(reading))

    def _command(self, boot: Boot, *, events_fd: int) -> list[str]:
        return [
            *("unshare", "--mount", "--net", sys.executable, "-m", "levier.lab.firmware"),
            *("--dir", str(self._layout.root), "--node", self._node.name),
            *("--boot", boot.device.value, "--events-fd", str(events_fd)),
        ]

    async def _listen(self, fd: int) -> None:
        """Hands the firmware's events on; the pipe ends when the firmware became the operating system, or ended."""
        reader = asyncio.StreamReader()
        with os.fdopen(fd, "rb") as pipe:
            await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
            while line := await reader.readline():
                message = json.loads(line)
                if message["kind"] == WRITTEN:
                    self._written = int(message["detail"]["bytes"])
                    continue
                kind = EventKind(message["kind"])
                self._os_runs = self._os_runs or kind is EventKind.OS_START
                self._record(kind, **message["detail"])

    async def ended(self) -> BootEnd:
        """The machine asked for a reboot or for power-off, or its firmware or container failed."""
        if self._process is None:
            return BootEnd(EndReason.CRASH, "the firmware was not started")
        status = await self._process.wait()
        if self._listener:
            await self._listener
        if status == REBOOT:
            return BootEnd(EndReason.REBOOT)
        if status == POWER_OFF:
            return BootEnd(EndReason.POWER_OFF)
        return BootEnd(EndReason.CRASH, f"ended with status {status}; see {self._layout.console(self._node.name)}")

    async def stop(self) -> None:
        """No process of the machine is left, and with them its namespaces, mounts and loop device."""
        await asyncio.to_thread(self._cgroups.kill, self._group)
        if self._process is not None:
            await self._process.wait()
            self._process = None
        if self._listener is not None:
            await self._listener
            self._listener = None
        await asyncio.to_thread(self._cgroups.remove, self._group)
        forget_container(self._rack, self._node)

    async def soft_off(self) -> None:
        """The operating system, if it runs, shuts down; firmware and ramdisk do not listen to the power button."""
        if self._process is not None and self._os_runs:
            self._process.send_signal(signal.SIGTERM)

    async def written(self) -> Written:
        """What the firmware wrote to the disk in this boot; writes of the operating system are not counted."""
        return Written.counted(self._written, device=self._device)

    @property
    def address(self) -> str | None:
        """None: the bridge knows."""
        return None


def forget_container(rack: RackSpec, node: NodeSpec) -> None:
    """The directory that nspawn leaves below /run is gone. Safe to repeat."""
    try:
        (_PROPAGATION / machine_name(rack, node)).rmdir()
    except FileNotFoundError:
        return


def require_nspawn() -> None:
    """All programs of this chassis are installed. Raises NotFound with what to install."""
    missing = sorted({package for program, package in _PROGRAMS.items() if shutil.which(program) is None})
    if missing:
        raise NotFound("programs for the nspawn chassis are missing", hint=f"apt install {' '.join(missing)}")
