"""The `stub` chassis: no process while a machine idles, no root, and yet the same protocols on the wire."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
from collections.abc import Mapping
from dataclasses import dataclass, field

from levier.domain.bmc import BootDevice
from levier.domain.errors import LevierError
from levier.lab.chassis import Boot, BootEnd, EndReason, Written
from levier.lab.commands import SYSTEM_PATH
from levier.lab.guest.ipxe import Verdict
from levier.lab.layout import Layout
from levier.lab.ledger import EventKind, Record
from levier.lab.spec import NodeSpec, RackSpec
from levier.lab.stub.disk import StubDisk
from levier.lab.stub.firmware import NetworkBoot
from levier.lab.stub.hooks import Hooks
from levier.lab.stub.namespaces import UserNamespace, make_user_namespace
from levier.lab.stub.sysctls import read_sysctls
from levier.lab.stub.system import StubSystem, forget_system
from levier.lab.stub.wire import AsyncWire

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StubRack:
    """What all machines of one rack share."""

    rack: RackSpec
    layout: Layout
    wire: AsyncWire
    sysctls: Mapping[str, bytes]
    _namespace: list[asyncio.Task[UserNamespace]] = field(default_factory=list)

    @classmethod
    def prepared(cls, rack: RackSpec, layout: Layout) -> StubRack:
        """This process is fit for a whole rack. To be called once, inside the event loop."""
        os.environ["PATH"] = SYSTEM_PATH
        # A running host takes five descriptors; the hard limit is what an unprivileged user may have.
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        # One thread for each child process is Python 3.11's way otherwise.
        watcher = asyncio.PidfdChildWatcher()
        watcher.attach_loop(asyncio.get_running_loop())
        asyncio.get_event_loop_policy().set_child_watcher(watcher)
        logging.getLogger("asyncssh").setLevel(logging.WARNING)
        logging.getLogger("httpx").setLevel(logging.WARNING)
        return cls(rack=rack, layout=layout, wire=AsyncWire(), sysctls=read_sysctls())

    async def user_namespace(self) -> UserNamespace:
        """The rack's user namespace, made when the first host boots. Raises Rejected where that is not allowed."""
        if not self._namespace:
            self._namespace.append(asyncio.create_task(make_user_namespace()))
        return await asyncio.shield(self._namespace[0])


class StubChassis:
    """One machine. What it does is one task of the event loop; its operating system is not even that."""

    def __init__(self, shared: StubRack, *, node: NodeSpec, record: Record, hooks: Hooks | None = None) -> None:
        self._shared = shared
        self._node = node
        self._record = record
        self._hooks = hooks or Hooks()
        self._task: asyncio.Task[None] | None = None
        self._end: asyncio.Future[BootEnd] | None = None
        self._system: StubSystem | None = None
        self._written = Written()

    @property
    def pid(self) -> int | None:
        """None: a stub machine has no process."""
        return None

    @property
    def address(self) -> str | None:
        """The address its operating system answers on."""
        return self._system.address if self._system else None

    async def start(self, boot: Boot) -> None:
        """The firmware runs."""
        self._written = Written()
        self._end = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._live(boot))

    async def ended(self) -> BootEnd:
        """The machine restarted or switched itself off, or something of it failed."""
        if self._end is None:
            return BootEnd(EndReason.CRASH, "the firmware was not started")
        return await asyncio.shield(self._end)

    async def stop(self) -> None:
        """Nothing of the machine runs: no task, no server, no command."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        if self._system is not None:
            await self._system.stop()
            self._system = None

    async def soft_off(self) -> None:
        """The operating system, if it runs, shuts down; firmware and ramdisk do not listen to the power button."""
        if self._system is not None and self._system.is_up:
            self._system.shut_down()

    async def written(self) -> Written:
        """What the ramdisk wrote to the disk in this boot; writes of the operating system are not counted."""
        return self._written

    # --- a boot ----------------------------------------------------------------------------------------------------
    async def _live(self, boot: Boot) -> None:
        try:
            await self._hooks.boot(boot)
            if boot.device is BootDevice.PXE:
                verdict = await self._network_boot()
                if verdict is not None:
                    self._finish(EndReason.REBOOT if verdict is Verdict.REBOOT else EndReason.POWER_OFF)
                    return
                self._say("network boot failed, going on with the disk")
            await self._boot_disk()
        except (LevierError, OSError) as error:
            self._finish(EndReason.CRASH, str(error))
        except Exception as error:  # noqa: BLE001 - a defect must cost one machine, and be seen
            _log.exception("%s: defect", self._node.name)
            self._finish(EndReason.CRASH, f"defect: {type(error).__name__}: {error}")

    def _finish(self, reason: EndReason, detail: str = "") -> None:
        if self._end is not None and not self._end.done():
            self._end.set_result(BootEnd(reason, detail))

    async def _network_boot(self) -> Verdict | None:
        shared = self._shared
        disk = StubDisk(
            shared.layout.disk(self._node.name),
            size_bytes=self._node.disk_gib << 30,
            wire=shared.wire,
            hooks=self._hooks,
            written=self._image_written,
        )
        boot = NetworkBoot(
            rack=shared.rack,
            node=self._node,
            wire=shared.wire,
            disk=disk,
            hooks=self._hooks,
            record=self._record,
            say=self._say,
        )
        return await boot.run()

    def _image_written(self, size_bytes: int) -> None:
        if not self._written.size_bytes:
            forget_system(self._shared.layout.system(self._node.name))
        self._written = Written(size_bytes, image=True)

    async def _boot_disk(self) -> None:
        """The operating system is up, or there is none to boot: then the machine stays on, as one does."""
        shared = self._shared
        system = StubSystem(
            layout=shared.layout,
            node=self._node.name,
            user_namespace=await shared.user_namespace(),
            sysctls=shared.sysctls,
            ssh_port=shared.rack.ssh_port,
            hooks=self._hooks,
            say=self._say,
            ended=self._finish,
        )
        try:
            await system.load()
        except LevierError as error:
            self._record(EventKind.NO_BOOTABLE_DEVICE, cause=str(error))
            self._say(f"no bootable device: {error}")
            return
        self._system = system
        self._record(EventKind.OS_START)
        await system.start()

    def _say(self, text: str) -> None:
        with self._shared.layout.console(self._node.name).open("a", encoding="utf-8") as console:
            console.write(f"{text}\n")
