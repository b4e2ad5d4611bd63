"""BMCs of the lab on loopback, without the rest of a rack: real datagrams, a chassis that only counts."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from levier.lab.bmc.device import BmcDevice, ChassisAction
from levier.lab.bmc.fru import FruIdentity
from levier.lab.bmc.server import BmcServer
from levier.lab.faults import Fault, FaultKind, NodeFaults, checked
from levier.lab.ledger import EventKind

USER = "admin"
IDENTITY = FruIdentity("Levier", "Virtual Node", "LVN-1", "1.0", "LV-test-0001", "a1-01")
GUID = bytes(range(16))


@dataclass
class CountingHardware:
    """Follows every request at once and remembers it."""

    powered: bool = False
    requests: list[ChassisAction] = field(default_factory=list)

    def request(self, action: ChassisAction) -> None:
        self.requests.append(action)
        self.powered = action in (ChassisAction.ON, ChassisAction.CYCLE, ChassisAction.RESET)


@dataclass
class BmcUnderTest:
    """One BMC and everything that it recorded."""

    port: int
    password: str
    device: BmcDevice
    hardware: CountingHardware
    entries: list[tuple[EventKind, dict[str, Any]]]
    secret_file: Path
    faults: NodeFaults
    loop: asyncio.AbstractEventLoop
    address: str = "127.0.0.1"

    def arm(self, kind: FaultKind, **terms: Any) -> None:
        """The fault is armed, as the daemon does it: in the event loop."""

        async def arm() -> None:
            self.faults.arm(checked(Fault(kind=kind, **terms)))

        asyncio.run_coroutine_threadsafe(arm(), self.loop).result(10)

    def heal(self) -> None:
        """Nothing is armed any more."""

        async def heal() -> None:
            self.faults.heal()

        asyncio.run_coroutine_threadsafe(heal(), self.loop).result(10)

    def strikes(self) -> list[dict[str, Any]]:
        """The strikes so far, oldest first."""
        return [detail for detail in self.of(EventKind.FAULT) if detail["event"] == "struck"]

    def names(self) -> list[str]:
        """The commands so far, oldest first."""
        return [detail["name"] for kind, detail in self.entries if kind is EventKind.BMC_COMMAND]

    def last(self, name: str) -> dict[str, Any]:
        """The last entry of that command."""
        return [d for kind, d in self.entries if kind is EventKind.BMC_COMMAND and d["name"] == name][-1]

    def commanded(self) -> list[ChassisAction]:
        """The power commands that arrived so far, oldest first."""
        return [*self.hardware.requests]

    def of(self, kind: EventKind) -> list[dict[str, Any]]:
        return [detail for found, detail in self.entries if found is kind]

    def ipmitool(self, *arguments: str, suite: int = 17, user: str = USER) -> subprocess.CompletedProcess[str]:
        where = ("-I", "lanplus", "-C", str(suite), "-H", self.address, "-p", str(self.port), "-U", user)
        # Resent after 20 s: a command arrives once, whatever this computer does.
        command = ["ipmitool", *where, "-N", "20", "-R", "3", "-f", str(self.secret_file), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)


@contextmanager
def running_bmcs(directory: Path, *, count: int = 1) -> Iterator[list[BmcUnderTest]]:
    """BMCs that answer, all served by one event loop in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    transports: list[asyncio.BaseTransport] = []

    async def start(number: int) -> BmcUnderTest:
        hardware, entries = CountingHardware(), list[tuple[EventKind, dict[str, Any]]]()
        device = BmcDevice(hardware=hardware, guid=GUID, identity=IDENTITY)
        password = secrets.token_hex(8)

        def record(kind: EventKind, /, **detail: Any) -> None:
            entries.append((kind, detail))

        faults = NodeFaults(node=f"n{number}", record=record)
        server = BmcServer(device=device, users={USER: password}, record=record, faults=faults)
        transport, _ = await loop.create_datagram_endpoint(lambda: server, local_addr=("127.0.0.1", 0))
        transports.append(transport)
        secret_file = directory / f"password-{number}"
        secret_file.touch(mode=0o600)
        secret_file.write_text(password)
        port = transport.get_extra_info("sockname")[1]
        return BmcUnderTest(port, password, device, hardware, entries, secret_file, faults=faults, loop=loop)

    try:
        yield [asyncio.run_coroutine_threadsafe(start(number), loop).result(10) for number in range(count)]
    finally:
        for transport in transports:
            loop.call_soon_threadsafe(transport.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
