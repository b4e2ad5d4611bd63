"""A machine of the rack: its power logic, driven by its BMC and by what happens inside it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from levier.domain.bmc import BootDevice, BootOverride, Firmware
from levier.domain.errors import LevierError
from levier.lab.bmc.device import BmcDevice, ChassisAction
from levier.lab.bmc.fru import FruIdentity
from levier.lab.chassis import Boot, BootEnd, Chassis, EndReason
from levier.lab.ledger import EventKind, Record
from levier.lab.spec import NodeSpec

_log = logging.getLogger(__name__)
_STOP = object()


@dataclass(frozen=True, slots=True)
class _Ended:
    """The boot with this number ended by itself."""

    number: int
    end: BootEnd


class Machine:
    """One machine. What is asked of it is queued and carried out in order by `run`."""

    def __init__(self, *, node: NodeSpec, chassis: Chassis, record: Record, boots: int = 0) -> None:
        self.node = node
        self._chassis = chassis
        self._record = record
        self._queue: asyncio.Queue[object] = asyncio.Queue()
        self._powered = False
        self._boots = boots
        self._booted_from: BootDevice | None = None
        self._watcher: asyncio.Task[None] | None = None
        self.device = BmcDevice(
            hardware=self,
            guid=UUID(node.guid).bytes_le,
            identity=FruIdentity(
                manufacturer="Levier",
                product="Virtual Node",
                part_number="LVN-1",
                version="1.0",
                serial=node.serial,
                asset_tag=node.name,
            ),
        )

    # --- what the BMC sees -----------------------------------------------------------------------------------------
    @property
    def powered(self) -> bool:
        """Whether the chassis has power."""
        return self._powered

    def request(self, action: ChassisAction) -> None:
        """The action will be carried out, after those asked for before it."""
        self._queue.put_nowait(action)

    # --- what the lab's control side sees --------------------------------------------------------------------------
    async def run(self) -> None:
        """Carries out what is asked for until `shut_down`. A failing action is recorded and ends in power off."""
        while (item := await self._queue.get()) is not _STOP:
            try:
                await self._handle(item)
            except Exception as error:  # noqa: BLE001 - one machine's defect must not take the rack down
                _log.exception("%s: %s failed", self.node.name, item)
                await self._fail(str(error))
        await self._power_off(why="lab-down")

    def shut_down(self) -> None:
        """`run` will power the machine off and return."""
        self._queue.put_nowait(_STOP)

    async def snapshot(self) -> dict[str, Any]:
        """The machine's truth now, for `lab status`."""
        override = self.device.boot_options.override()
        return {
            "name": self.node.name,
            "power": "on" if self._powered else "off",
            "boot_device": override.device.value,
            "boot_persistent": override.persistent,
            "boot_firmware": override.firmware.value if override.device is not BootDevice.NONE else None,
            "booted_from": self._booted_from.value if self._booted_from and self._powered else None,
            "identify": self.device.identify.lit,
            "boot_bytes_written": (await self._chassis.written()).size_bytes if self._powered else 0,
            "address": self._chassis.address if self._powered else None,
            "pid": self._chassis.pid,
        }

    # --- power logic -----------------------------------------------------------------------------------------------
    async def _handle(self, item: object) -> None:
        if isinstance(item, _Ended):
            await self._boot_ended(item)
        elif item is ChassisAction.ON:
            if not self._powered:
                self._record(EventKind.POWER, to="on", why="bmc")
                await self._boot(why="power-on")
        elif item is ChassisAction.OFF:
            await self._power_off(why="bmc")
        elif item is ChassisAction.SOFT_OFF:
            if self._powered:
                await self._chassis.soft_off()
        elif item in (ChassisAction.RESET, ChassisAction.CYCLE) and self._powered:
            await self._restart(cycle=item is ChassisAction.CYCLE)

    async def _restart(self, *, cycle: bool) -> None:
        if cycle:
            await self._power_off(why="bmc-cycle")
            self._record(EventKind.POWER, to="on", why="bmc-cycle")
        else:
            await self._halt()
        await self._boot(why="bmc-cycle" if cycle else "bmc-reset")

    async def _boot(self, *, why: str) -> None:
        override = self.device.boot_options.consume()
        device, ignored = _boot_source(override, firmware=self.node.firmware)
        self._boots += 1
        boot = Boot(number=self._boots, device=device)
        self._powered, self._booted_from = True, device
        self._record(
            EventKind.BOOT,
            boot=boot.number,
            device=device.value,
            firmware=self.node.firmware.value,
            why=why,
            override=override.device.value,
            persistent=override.persistent,
            **({"override_ignored": ignored} if ignored else {}),
        )
        await self._chassis.start(boot)
        self._watcher = asyncio.create_task(self._watch(boot.number))

    async def _watch(self, number: int) -> None:
        self._queue.put_nowait(_Ended(number, await self._chassis.ended()))

    async def _boot_ended(self, ended: _Ended) -> None:
        if ended.number != self._boots or not self._powered:
            return  # the BMC was faster: that boot is history
        if ended.end.reason is EndReason.REBOOT:
            await self._halt()
            await self._boot(why=ended.end.reason.value)
            return
        if ended.end.reason is EndReason.CRASH:
            self._record(EventKind.CRASH, boot=ended.number, cause=ended.end.detail)
        await self._power_off(why=ended.end.reason.value)

    async def _power_off(self, *, why: str) -> None:
        if not self._powered:
            return
        await self._halt()
        self._powered = False
        self._record(EventKind.POWER, to="off", why=why)

    async def _halt(self) -> None:
        """Nothing runs any more, and what the boot wrote is in the ledger."""
        if self._watcher:
            self._watcher.cancel()
            self._watcher = None
        await self._chassis.stop()
        written = await self._chassis.written()
        if written.size_bytes:
            self._record(EventKind.DISK_WRITE, boot=self._boots, bytes=written.size_bytes, image=written.image)

    async def _fail(self, cause: str) -> None:
        self._record(EventKind.CRASH, boot=self._boots, cause=cause)
        try:
            await self._power_off(why="crash")
        except (LevierError, OSError):
            _log.exception("%s: could not be stopped after a failure", self.node.name)
            self._powered = False
            self._record(EventKind.POWER, to="off", why="crash")


def _boot_source(override: BootOverride, *, firmware: Firmware) -> tuple[BootDevice, str]:
    """What this boot starts from, and why an override was not followed (empty if it was).

    The firmware's own order is the disk. A boot override for the other firmware interface is ignored, as machines
    without a compatibility mode do.
    """
    if override.device in (BootDevice.NONE, BootDevice.DISK):
        return BootDevice.DISK, ""
    if override.device is not BootDevice.PXE:
        return BootDevice.DISK, f"this machine has no {override.device.value}"
    if override.firmware is not firmware:
        return BootDevice.DISK, f"asked for {override.firmware.value}, this machine has {firmware.value}"
    return BootDevice.PXE, ""
