"""The lab's one daemon: serves all BMCs, runs the machines, keeps the ledger, answers on the control socket."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from levier.lab.bmc.server import BmcServer
from levier.lab.chassis import Chassis
from levier.lab.chassis.factory import ChassisFactory, chassis_factory
from levier.lab.control import Answer, serve_control
from levier.lab.fault_board import FaultBoard
from levier.lab.layout import Layout
from levier.lab.ledger import EventKind, LedgerWriter, Record, read_events
from levier.lab.machine import Machine
from levier.lab.sitefile import CREDENTIAL
from levier.lab.spec import NodeSpec, RackSpec

_log = logging.getLogger(__name__)
_STATE_S = 2.0


class Daemon:
    """Everything that lives as long as the lab is up."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._rack = RackSpec.from_json(layout.spec.read_text(encoding="utf-8"))
        self._make_chassis: ChassisFactory = chassis_factory(self._rack, layout)
        boots = Counter(event.node for event in read_events(layout.ledger, kind=EventKind.BOOT))
        self._ledger = LedgerWriter(layout.ledger)
        self._faults = FaultBoard(self._rack, recorder=self._recorder)
        self._machines = [self._machine(node, boots=boots[node.name]) for node in self._rack.nodes]
        self._stopping = asyncio.Event()

    def _machine(self, node: NodeSpec, *, boots: int) -> Machine:
        record = self._recorder(node)
        chassis: Chassis = self._make_chassis(node, record, self._faults.of(node.name))
        return Machine(node=node, chassis=chassis, record=record, boots=boots)

    def _recorder(self, node: NodeSpec) -> Record:
        def record(kind: EventKind, /, **detail: Any) -> None:
            self._ledger.append(kind=kind, node=node.name, **detail)

        return record

    async def run(self) -> None:
        """The lab is up until it is told to stop; then all machines are off."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        machines = [asyncio.create_task(machine.run()) for machine in self._machines]
        await self._serve_bmcs()
        self._ledger.append(
            kind=EventKind.LAB, event="up", pid=os.getpid(), nodes=len(self._machines), chassis=self._rack.mixture
        )
        control = await serve_control(self._layout.control, self._control)
        saver = asyncio.create_task(self._save_regularly())
        await self._stopping.wait()
        for machine in self._machines:
            machine.shut_down()
        await asyncio.gather(*machines)
        saver.cancel()
        await self._save()
        self._ledger.append(kind=EventKind.LAB, event="stopped")
        control.close()

    async def _serve_bmcs(self) -> None:
        credentials = json.loads(self._layout.credentials.read_text(encoding="utf-8"))[CREDENTIAL]
        users = {credentials["username"]: credentials["password"]}
        loop = asyncio.get_running_loop()
        for machine in self._machines:
            record, faults = self._recorder(machine.node), self._faults.of(machine.node.name)
            server = BmcServer(device=machine.device, users=users, record=record, faults=faults)
            where = (machine.node.bmc_address, machine.node.bmc_port)
            await loop.create_datagram_endpoint(lambda server=server: server, local_addr=where)  # type: ignore[misc]

    async def _control(self, request: dict[str, Any]) -> Answer:
        operation = request.get("op")
        if operation == "status":
            return {"pid": os.getpid(), "nodes": await self._snapshots()}
        if operation == "stop":
            self._stopping.set()
            return {"stopping": True}
        return self._faults.answer(request) or {"error": f"unknown request {operation!r}"}

    async def _snapshots(self) -> list[dict[str, Any]]:
        return list(await asyncio.gather(*(machine.snapshot() for machine in self._machines)))

    async def _save_regularly(self) -> None:
        while True:
            await self._save()
            await asyncio.sleep(_STATE_S)

    async def _save(self) -> None:
        """The state file holds the machines as they are now: the last word, should this process be killed."""
        text = json.dumps({"pid": os.getpid(), "nodes": await self._snapshots()}, indent=1)
        fresh = self._layout.state.with_suffix(".new")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(self._layout.state)


async def _main(layout: Layout) -> None:
    await Daemon(layout).run()


def main() -> int:
    """Runs the daemon of the lab in `--dir`, inside the lab's namespace, until it is stopped."""
    parser = argparse.ArgumentParser(prog="levier.lab.daemon")
    parser.add_argument("--dir", type=Path, required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(_main(Layout(options.dir)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
