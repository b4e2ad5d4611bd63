"""The lab's BMCs as a process: `python lab_bmc.py LEDGER PORT [PORT ...]`; node nI of the ledger has the Ith port."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from pathlib import Path

from levier.lab.bmc.device import BmcDevice, ChassisAction
from levier.lab.bmc.fru import FruIdentity
from levier.lab.bmc.server import BmcServer
from levier.lab.faults import NodeFaults
from levier.lab.ledger import LedgerWriter

USERS = {"admin": "secret"}
IDENTITY = FruIdentity(
    manufacturer="Levier", product="Virtual", part_number="LV", version="1", serial="LAB0001", asset_tag="L-1"
)


class Switch:
    """The least machine: it has power or not."""

    def __init__(self) -> None:
        self.powered = False

    def request(self, action: ChassisAction) -> None:
        self.powered = action in (ChassisAction.ON, ChassisAction.RESET, ChassisAction.CYCLE)


async def serve(ledger: LedgerWriter, ports: list[int]) -> None:
    loop = asyncio.get_running_loop()
    for index, port in enumerate(ports):
        device = BmcDevice(hardware=Switch(), guid=bytes(16), identity=IDENTITY)
        record = partial(_append, ledger, f"n{index}")
        await loop.create_datagram_endpoint(
            partial(
                BmcServer, device=device, users=USERS, record=record, faults=NodeFaults(node=f"n{index}", record=record)
            ),
            local_addr=("127.0.0.1", port),
        )
    await asyncio.Event().wait()


def _append(ledger: LedgerWriter, node: str, kind: object, /, **detail: object) -> None:
    ledger.append(kind=kind, node=node, **detail)  # type: ignore[arg-type]


if __name__ == "__main__":
    asyncio.run(serve(LedgerWriter(Path(sys.argv[1])), [int(port) for port in sys.argv[2:]]))
