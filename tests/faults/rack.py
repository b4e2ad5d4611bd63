"""A rack of `stub` machines and a Levier beside it: its boot service in a process, its services in this one."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from levier.domain.operation import OperationStatus
from levier.lab.rack import Rack
from levier.lab.spec import ChassisKind, Ports, plan_rack
from levier.services.settings import Settings
from tests.faults.verdict import Sight
from tests.faults.worker import services_with
from tests.integration.e2e.ledger import Page
from tests.rig.levier_in_process import supply
from tests.rig.sshd import free_port

_READY_S = 60.0


class FaultRack:
    """The rack is up, its machines are off, and its site is applied. Nodes are lent to one user at a time."""

    def __init__(self, directory: Path, *, nodes: int) -> None:
        self.lab = Rack.at(name=f"faults-{os.getpid()}", directory=directory / "lab")
        self._boot_port = free_port()
        self.settings = Settings(
            state_dir=directory / "state",
            database_url=f"sqlite:///{directory / 'state' / 'levier.db'}",
            api_url="http://127.0.0.1:9",
            prefect_api_url="http://127.0.0.1:9/api",  # the discard port: no orchestrator takes part
            boot_port=self._boot_port,
            image_cache=directory / "images",
            build_ramdisk=False,
        )
        self._nodes = nodes
        self._free: queue.Queue[str] = queue.Queue()
        self._boot: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """The rack is up and the boot service answers."""
        ports = Ports(bmc=free_port(), ssh=free_port(), boot=self._boot_port)
        spec = plan_rack(name=self.lab.name, chassis=ChassisKind.STUB, nodes=self._nodes, ports=ports)
        self.lab.up(spec)
        services = self.services = services_with(self.settings)
        supply(services, self.lab)
        self._start_boot_service()
        for node in spec.nodes:
            self._free.put(node.name)

    def stop(self) -> None:
        """Nothing of it is left."""
        if self._boot is not None:
            self._boot.kill()
            self._boot.wait()
        self.lab.down()

    def _start_boot_service(self) -> None:
        environment = {
            **os.environ,
            "LEVIER_STATE_DIR": str(self.settings.state_dir),
            "LEVIER_BOOT_PORT": str(self._boot_port),
            "LEVIER_IMAGE_CACHE": str(self.settings.image_cache),
            "LEVIER_BUILD_RAMDISK": "no",
        }
        log = (self.settings.state_dir / "boot.log").open("ab")
        command = [sys.executable, "-m", "levier.api.boot", "--state-dir", str(self.settings.state_dir)]
        self._boot = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        log.close()
        self._wait_for_boot_service()

    def _wait_for_boot_service(self) -> None:
        deadline = time.monotonic() + _READY_S
        while True:
            assert self._boot is not None
            assert self._boot.poll() is None, (self.settings.state_dir / "boot.log").read_text()[-2000:]
            try:
                httpx.get(f"http://127.0.0.1:{self._boot_port}/boot.ipxe", trust_env=False).raise_for_status()
                return
            except httpx.HTTPError:
                assert time.monotonic() < deadline, "the boot service does not answer"
                time.sleep(0.05)  # between two looks

    @contextmanager
    def a_node(self) -> Iterator[str]:
        """A node that nobody else uses. It is not lent again when the block ends by an error."""
        name = self._free.get(timeout=_READY_S * 10)
        yield name
        self._free.put(name)

    def place(self) -> int:
        """This place in the lab's ledger: it only grows."""
        return self.lab.layout.ledger.stat().st_size

    def page(self, node: str, *, since: int) -> Page:
        """What happened to the node since that place."""
        with self.lab.layout.ledger.open("rb") as ledger:
            ledger.seek(since)
            lines = ledger.read().splitlines()
        return Page([event for line in lines if (event := json.loads(line))["node"] == node])

    def sight(self, node: str, status: OperationStatus, *, since: int) -> Sight:
        """The node as it is now, beside what happened to it since that place of the ledger."""
        power = {n["name"]: n["power"] for n in self.lab.status()["nodes"]}[node]
        return Sight(self.services, node, status, power, self.page(node, since=since))
