"""The `qemu` chassis: real firmware, network boot and disk in software emulation."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from levier.domain.bmc import BootDevice, Firmware
from levier.domain.errors import DriverError, NotFound, OutcomeUnknown, Rejected
from levier.lab.cgroups import CgroupTree
from levier.lab.chassis import Boot, BootEnd, EndReason, Written
from levier.lab.chassis.qmp import Qmp
from levier.lab.faults import FaultKind, FaultSource
from levier.lab.layout import Layout
from levier.lab.network import tap_name
from levier.lab.spec import NodeSpec, RackSpec

_PROGRAM = "qemu-system-x86_64"
_UEFI_CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
_UEFI_VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
_DISK = "disk0"
_QUIT_S = 5.0


class QemuChassis:
    """One QEMU machine. A guest's reboot ends the process, so that every boot is one and has its own boot order."""

    def __init__(
        self, *, rack: RackSpec, node: NodeSpec, layout: Layout, cgroups: CgroupTree, faults: FaultSource
    ) -> None:
        self._rack = rack
        self._node = node
        self._layout = layout
        self._cgroups = cgroups
        self._faults = faults
        self._group = f"node/{node.name}"
        self._process: asyncio.subprocess.Process | None = None
        self._qmp: Qmp | None = None
        self._shutdown: asyncio.Future[str] | None = None
        self._written = 0
        self._device: BootDevice | None = None

    @property
    def pid(self) -> int | None:
        """QEMU's process id."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else None

    async def start(self, boot: Boot) -> None:
        """QEMU runs and its processor executes firmware."""
        self._prepare_files()
        self._cgroups.create(self._group)
        self._written, self._device = 0, boot.device
        loop = asyncio.get_running_loop()
        shutdown: asyncio.Future[str] = loop.create_future()
        self._shutdown = shutdown
        ours, theirs = socket.socketpair()
        with theirs, (self._layout.node(self._node.name) / "qemu.log").open("ab") as log:
            argv = self._cgroups.inside(self._group, self._command(boot, qmp_fd=theirs.fileno()))
            self._process = await asyncio.create_subprocess_exec(
                *argv, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[theirs.fileno()]
            )
        try:
            self._qmp = await Qmp.connect(ours, _shutdown_listener(shutdown))
            if not self._never_returns(boot):
                await self._qmp.execute("cont")
        except OutcomeUnknown as error:
            raise await self._start_failure(error) from error

    def _never_returns(self, boot: Boot) -> bool:
        """Whether this machine has power and its processor executes nothing: no host comes of it."""
        from_disk = boot.device is BootDevice.DISK
        return from_disk and self._faults.due(FaultKind.HOST_NEVER_RETURNS, boot=str(boot.number)) is not None

    def _clock(self, boot: Boot) -> str:
        """What the machine's clock starts with."""
        fault = self._faults.due(FaultKind.CLOCK_OFF, boot=str(boot.number))
        if fault is None or fault.seconds is None:
            return "utc"
        return (datetime.now(UTC) + timedelta(seconds=fault.seconds)).strftime("%Y-%m-%dT%H:%M:%S")

    async def _start_failure(self, error: OutcomeUnknown) -> DriverError:
        """What QEMU itself said, if it ended; `error` if it hangs."""
        if self._process is None:
            return error
        try:
            status = await asyncio.wait_for(self._process.wait(), _QUIT_S)
        except TimeoutError:
            return error
        said = (self._layout.node(self._node.name) / "qemu.log").read_text(encoding="utf-8", errors="replace")
        return Rejected(f"QEMU ended with status {status}: {said.strip()[-300:]}")

    async def ended(self) -> BootEnd:
        """The guest asked for a reboot or for power-off, or QEMU died."""
        process, shutdown = self._process, self._shutdown
        if process is None or shutdown is None:
            return BootEnd(EndReason.CRASH, "QEMU was not started")
        gone = asyncio.create_task(process.wait())
        try:
            both: set[asyncio.Future[Any]] = {gone, shutdown}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
        if not shutdown.done():
            return BootEnd(EndReason.CRASH, f"QEMU ended with status {process.returncode}")
        reason = EndReason.REBOOT if shutdown.result() == "guest-reset" else EndReason.POWER_OFF
        return BootEnd(reason)

    async def stop(self) -> None:
        """QEMU ended: by QMP, or killed when it does not listen."""
        await self.written()
        if self._qmp is not None:
            with contextlib.suppress(DriverError):  # it is hung or gone: the kill below ends it
                await self._qmp.execute("quit")
            await self._qmp.close()
            self._qmp = None
        if self._process is not None:
            try:
                await asyncio.wait_for(self._process.wait(), _QUIT_S)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
            self._process = None
        await asyncio.to_thread(self._cgroups.kill, self._group)

    async def soft_off(self) -> None:
        """The guest got the ACPI power button."""
        if self._qmp is not None:
            await self._qmp.execute("system_powerdown")

    async def written(self) -> Written:
        """What the guest wrote to its disk in this boot, as QEMU counts; the last known figure once QEMU is gone."""
        if self._qmp is not None:
            try:
                blocks = await self._qmp.execute("query-blockstats")
            except DriverError:
                return Written.counted(self._written, device=self._device)
            self._written = sum(int(b["stats"]["wr_bytes"]) for b in blocks if b.get("device") == _DISK)
        return Written.counted(self._written, device=self._device)

    @property
    def address(self) -> str | None:
        """None: the bridge knows."""
        return None

    def _prepare_files(self) -> None:
        directory = self._layout.node(self._node.name)
        variables = directory / "efi-variables.fd"
        if self._node.firmware is not Firmware.UEFI or variables.exists():
            return
        if not _UEFI_VARIABLES.exists():
            raise NotFound(f"{_UEFI_VARIABLES} is missing", hint="apt install ovmf")
        shutil.copyfile(_UEFI_VARIABLES, variables)

    def _command(self, boot: Boot, *, qmp_fd: int) -> list[str]:
        name = f"{self._rack.namespace}/{self._node.name}"
        return [
            *(_PROGRAM, "-name", name, "-nodefaults", "-no-user-config", "-display", "none", "-vga", "none"),
            *("-machine", "q35,graphics=off", "-accel", self._accelerator(), "-cpu", "qemu64"),
            *("-smp", str(self._node.cpus), "-m", str(self._node.memory_mib), "-rtc", f"base={self._clock(boot)}"),
            *("-smbios", self._smbios()),
            *self._firmware_arguments(),
            *self._device_arguments(boot),
            *("-chardev", f"file,id=console,path={self._layout.console(self._node.name)},append=on"),
            *("-serial", "chardev:console"),
            *("-chardev", f"socket,id=qmp,fd={qmp_fd}", "-mon", "chardev=qmp,mode=control"),
            # Paused on the way out, QEMU can still be asked what was written; started paused, no event is missed.
            *("-action", "reboot=shutdown,shutdown=pause", "-S"),
        ]

    def _accelerator(self) -> str:
        """Software emulation, with room for translated code that grows with what the machine can run."""
        return f"tcg,thread=multi,tb-size={min(max(self._node.memory_mib // 8, 64), 512)}"

    def _smbios(self) -> str:
        identity = f"serial={self._node.serial},uuid={UUID(self._node.guid)}"
        return f"type=1,manufacturer=Levier,product=Virtual Node,{identity}"

    def _firmware_arguments(self) -> list[str]:
        if self._node.firmware is Firmware.BIOS:
            return []
        variables = self._layout.node(self._node.name) / "efi-variables.fd"
        return [
            *("-drive", f"if=pflash,format=raw,readonly=on,file={_UEFI_CODE}"),
            *("-drive", f"if=pflash,format=raw,file={variables}"),
        ]

    def _device_arguments(self, boot: Boot) -> list[str]:
        pxe = boot.device is BootDevice.PXE
        index = self._rack.nodes.index(self._node)
        nic = f"virtio-net-pci,netdev=net0,mac={self._node.mac}"
        if pxe:
            nic += ",bootindex=0"
        if not pxe or self._node.firmware is Firmware.UEFI:
            # Without its ROM: a disk boot never tries the network, and UEFI uses its own PXE as real machines do.
            nic += ",romfile="
        disk = f"virtio-blk-pci,drive={_DISK},serial={self._node.disk_serial},bootindex=1"
        image = self._layout.disk(self._node.name)
        return [
            # The host's page cache outlives a killed QEMU: cache=unsafe loses nothing here but time.
            *("-drive", f"if=none,id={_DISK},file={image},format=raw,cache=unsafe,discard=unmap,detect-zeroes=unmap"),
            # Without the header the card has no offloads: a frame that leaves it has its checksums, as on a wire.
            *("-netdev", f"tap,id=net0,ifname={tap_name(index)},script=no,downscript=no,vnet_hdr=off"),
            *("-device", nic, "-device", disk, "-device", "virtio-rng-pci", "-boot", "strict=on"),
        ]


def _shutdown_listener(shutdown: asyncio.Future[str]) -> Callable[[str, dict[str, Any]], None]:
    def on_event(name: str, data: dict[str, Any]) -> None:
        if name == "SHUTDOWN" and data.get("guest") and not shutdown.done():
            shutdown.set_result(str(data.get("reason", "")))

    return on_event


def require_qemu(firmware: Firmware) -> None:
    """QEMU and the firmware files are installed. Raises NotFound with what to install."""
    if shutil.which(_PROGRAM) is None:
        raise NotFound(f"{_PROGRAM} is not installed", hint="apt install qemu-system-x86 ipxe-qemu")
    if firmware is Firmware.UEFI and not os.access(_UEFI_CODE, os.R_OK):
        raise NotFound(f"{_UEFI_CODE} is missing", hint="apt install ovmf")
