"""The network boot of a `stub` machine: the work of firmware with static HTTP boot, of iPXE and the deploy ramdisk."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from levier.domain.errors import DriverError, LevierError
from levier.lab.guest.agent import Agent
from levier.lab.guest.http import HttpRefused
from levier.lab.guest.ipxe import Fetchers, Ipxe, ScriptFailed, Verdict
from levier.lab.ledger import EventKind, Record
from levier.lab.spec import NodeSpec, RackSpec
from levier.lab.stub.disk import StubDisk
from levier.lab.stub.hooks import Hooks
from levier.lab.stub.wire import AsyncWire

_NIC = "eth0"


@dataclass(frozen=True, slots=True)
class NetworkBoot:
    """One network boot of one machine."""

    rack: RackSpec
    node: NodeSpec
    wire: AsyncWire
    disk: StubDisk
    hooks: Hooks
    record: Record
    say: Callable[[str], None]

    async def run(self) -> Verdict | None:
        """REBOOT or POWER_OFF as the boot ended, None when it did not come to one: the disk is next."""
        ipxe = self._interpreter()
        try:
            verdict = await ipxe.chain(self.rack.boot_script)
        except (LevierError, ScriptFailed) as error:
            self.say(f"network boot: {error}")
            self.record(EventKind.FIRMWARE, netboot_failed=str(error))
            return None
        if verdict is Verdict.BOOT:
            return await self._ramdisk(ipxe.command_line or "")
        return None if verdict is Verdict.EXIT else verdict

    def _interpreter(self) -> Ipxe:
        fetchers = Fetchers(script=self._fetch_script, file=self.wire.drain, sleep=self.wire.sleep, say=self.say)
        settings = {
            "mac": self.node.mac,
            "next-server": str(self.rack.server),
            "serial": self.node.serial,
            "manufacturer": "Levier",
            "product": "Virtual Node",
            "buildarch": "x86_64",
            "platform": "efi" if self.node.firmware.value == "uefi" else "pcbios",
        }
        return Ipxe(fetchers=fetchers, settings=settings)

    async def _fetch_script(self, url: str) -> bytes:
        try:
            script = await self.wire.fetch(url)
        except HttpRefused as error:
            self.record(EventKind.NETBOOT_SCRIPT, url=url, status=error.status)
            raise
        except DriverError as error:
            self.record(EventKind.NETBOOT_SCRIPT, url=url, error=str(error))
            raise
        self.record(EventKind.NETBOOT_SCRIPT, url=url, status=200)
        return script

    async def _ramdisk(self, command_line: str) -> Verdict | None:
        """The ramdisk's work is done. A machine whose ramdisk cannot start stays on and does nothing."""
        options = dict(word.split("=", 1) for word in command_line.split() if "=" in word)
        if not {"levier.url", "levier.token"} <= options.keys():
            self.record(EventKind.FIRMWARE, not_for_levier="the kernel's command line names no boot service")
            self.say("this kernel is not Levier's deploy ramdisk")
            await self.wire.sleep(float("inf"))
        await self.hooks.agent_stage("claim")
        agent = Agent(
            boot_url=options["levier.url"].rstrip("/"),
            token=options["levier.token"],
            inventory=self._inventory(),
            wire=self.wire,
            disk=self.disk,
            say=self.say,
        )
        return Verdict.REBOOT if await agent.run() == "reboot" else Verdict.POWER_OFF

    def _inventory(self) -> dict[str, object]:
        return {
            "serial": self.node.serial,
            "vendor": "Levier",
            "product": "Virtual Node",
            "firmware": self.node.firmware.value,
            "cpu_model": "levier-lab stub",
            "cpu_count": os.cpu_count() or 1,
            "memory_mib": self.node.memory_mib,
            "disk.vda.size_bytes": self.disk.size_bytes,
            "disk.vda.serial": self.node.disk_serial,
            "disk.vda.rotational": 0,
            f"nic.{_NIC}.mac": self.node.mac,
            f"nic.{_NIC}.link": 1,
        }
