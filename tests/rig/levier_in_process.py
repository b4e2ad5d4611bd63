"""A whole Levier in this process over a `stub` rack of its own: real services, real steps, no Prefect."""

from __future__ import annotations

import asyncio
import io
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from sqlalchemy.orm import Session

from levier.api.boot_app import create_boot_app
from levier.api.boot_server import boot_server
from levier.bootstrap import wire
from levier.domain.operation import OperationStatus, Settlement, StepStatus
from levier.domain.operation_log import StepEventKind
from levier.domain.operation_status import ErrorRecord
from levier.lab.faults import Fault
from levier.lab.ledger import Event
from levier.lab.rack import Rack
from levier.lab.spec import ChassisKind, Ports, plan_rack
from levier.services.boot_files import boot_services
from levier.services.patience import Patience
from levier.services.registry import Services
from levier.services.settings import Settings
from levier.store.base import open_engine
from levier.store.log_reading import step_events
from tests.rig.direct_hands import DirectHands
from tests.rig.sshd import free_port

BRIEF = Patience(
    power_timeout_s=1.0,
    first_sign_timeout_s=4.0,
    silence_timeout_s=3.0,
    agent_timeout_s=20.0,
    write_timeout_s=30.0,
    host_timeout_s=4.0,
    clock_timeout_s=1.0,
)
"""Limits that suit machines which boot in a tenth of a second."""
BMC_TIMEOUT_S = 3.0
"""For a BMC that is killed on purpose: until it counts as silent."""
_FAILED = {StepEventKind.FAILED, StepEventKind.UNKNOWN}


@dataclass(frozen=True)
class Verdict:
    """What became of one operation."""

    settlement: Settlement
    status: OperationStatus
    duration_s: float

    @property
    def state(self) -> str:
        return self.settlement.state.value

    def step(self, name: str, node: str) -> StepStatus:
        return self.status.step(name, node)

    def failed(self, node: str) -> StepStatus:
        """The step that failed first on the node."""
        return min((s for s in self.status.steps if s.target == node and s.error), key=lambda s: s.first_seq)


class LevierInProcess:
    """The services of one installation, and the rack they look after."""

    def __init__(self, services: Services, rack: Rack) -> None:
        self.services = services
        self.rack = rack

    def operate(
        self,
        kind: str,
        *nodes: str,
        parallel: int = 16,
        tell: Callable[[str], None] = print,
        before_step: Callable[[str, str], None] | None = None,
    ) -> Verdict:
        """The operation was ordered and brought as far as it goes; `tell` hears what its worker says.

        `before_step` is called with step and target before the step's first attempt, which waits for it.
        """
        key = f"test-{uuid.uuid4()}"
        operation = self.services.operations.plan(kind, list(nodes), {}, flow_run_id=key, who="test")
        began = time.monotonic()
        run = self.services.operations.take_over(operation, flow_run_id=key, tell=tell)
        try:
            settlement = asyncio.run(DirectHands(run, parallel, before_step=before_step).conductor.carry_out())
            return Verdict(settlement, run.status(), time.monotonic() - began)
        finally:
            run.close()

    def inject(self, node: str, fault: Fault) -> None:
        self.rack.inject(node, fault)

    def failures(self, verdict: Verdict, node: str) -> list[tuple[str, ErrorRecord]]:
        """The step and the error of each attempt on the node that did not succeed, oldest first."""
        with Session(open_engine(self.services.settings.database_url)) as session:
            events = step_events(session, verdict.status.id, target=node)
        recorded = [(e.step, ErrorRecord.from_data(e.data)) for e in events if e.kind in _FAILED]
        return [(step, error) for step, error in recorded if error]

    def events(self, node: str, kind: str) -> list[Event]:
        return self.rack.events(node=node, kind=kind)

    def strikes(self, node: str) -> list[dict[str, Any]]:
        """What struck the node so far, oldest first."""
        return [e.detail for e in self.events(node, "fault") if e.detail["event"] == "struck"]


@contextmanager
def levier_in_process(
    directory: Path,
    *,
    nodes: int,
    patience: Patience = BRIEF,
    database_url: str = "",
    bmc_timeout_s: float = BMC_TIMEOUT_S,
) -> Iterator[LevierInProcess]:
    """A rack of `nodes` stub machines is up, Levier's services and its boot service beside it, the site is applied.

    Its database is the one at `database_url`, or an SQLite file of its own. `bmc_timeout_s` is every BMC's timeout_s.
    """
    name = f"v{os.getpid()}-{uuid.uuid4().hex[:4]}"
    ports = Ports(bmc=free_port(), ssh=free_port(), boot=free_port())
    rack = Rack(name=name, directory=directory / "lab")
    with ExitStack() as stack:
        stack.callback(rack.down)
        rack.up(plan_rack(name=name, chassis=ChassisKind.STUB, nodes=nodes, ports=ports))
        settings = _settings(directory / "state", boot_port=ports.boot, patience=patience)
        services = wire(replace(settings, database_url=database_url or settings.database_url))
        supply(services, rack, bmc_timeout_s=bmc_timeout_s)
        stack.enter_context(_boot_service(services, host=str(rack.spec().server)))
        yield LevierInProcess(services, rack)


def _settings(state_dir: Path, *, boot_port: int, patience: Patience) -> Settings:
    return Settings(
        state_dir=state_dir,
        database_url=f"sqlite:///{state_dir / 'levier.db'}",
        api_url="http://127.0.0.1:1",
        prefect_api_url="http://127.0.0.1:1/api",
        boot_port=boot_port,
        image_cache=state_dir / "images",
        patience=patience,
        build_ramdisk=False,
    )


def supply(services: Services, rack: Rack, *, bmc_timeout_s: float = BMC_TIMEOUT_S) -> None:
    """Image, ramdisk, credentials and site are in place, as an operator brings them."""
    status = rack.status()
    services.images.take_in(status["image"], Path(status["image_file"]), sha256="")
    services.images.take_in_ramdisk(Path(status["ramdisk_file"]))
    for name, values in json.loads(Path(status["credentials_file"]).read_text()).items():
        services.secrets.set(name, values)
    site = YAML(typ="safe").load(Path(status["site_file"]).read_text())
    for node in site["nodes"]:
        node["bmc"]["timeout_s"] = bmc_timeout_s
    text = io.StringIO()
    YAML(typ="safe").dump(site, text)
    services.sites.apply(text.getvalue(), "site.yaml", who="test")


@contextmanager
def _boot_service(services: Services, *, host: str) -> Iterator[None]:
    files = boot_services(services.settings, services.boot_agents)
    server = boot_server(create_boot_app(files), host=host, port=services.settings.boot_port)
    thread = threading.Thread(target=server.run, name="boot-service")
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started:
            assert thread.is_alive(), "the boot service ended"
            assert time.monotonic() < deadline, "the boot service did not come up"
            time.sleep(0.02)
        yield
    finally:
        server.should_exit = True
        thread.join(20)
