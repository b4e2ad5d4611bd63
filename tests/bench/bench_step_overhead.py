"""What a step costs beyond its own work: Prefect task and checkpoint commits, against calling the function."""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from prefect_server import PrefectServer

from levier import __version__
from levier.domain.operation import JsonMap, OperationState, PlannedStep
from levier.domain.site import Site
from levier.saga.engine import Saga
from levier.saga.step import Step, StepRegistry, Undo
from levier.services.context import NodeContext, OperationTerms
from levier.services.operation_run import OperationRun
from levier.services.provisioning import Provisioning
from levier.store.base import open_engine
from levier.store.migrate import upgrade
from levier.store.step_log import SqlStepLog

STEPS = 200
"""No-op steps, one after the other on one node: enough for a 95th percentile that ten samples lie beyond."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    started = PrefectServer(tmp_path_factory.mktemp("prefect"))
    with started.running():
        yield started


def _nothing(_context: NodeContext) -> JsonMap:
    return {}


def _operation(directory: Path, steps: list[Step[NodeContext]]) -> OperationRun:
    engine = open_engine(f"sqlite:///{directory / 'levier.db'}")
    upgrade(engine)
    saga = Saga(SqlStepLog(engine), lambda: datetime.now(UTC), __version__)
    registry = StepRegistry()
    registry.add(*steps)
    site = Site.model_validate(_site())
    planned = [PlannedStep(step.name, "n1") for step in steps]
    operation = saga.create(kind="bench", targets=["n1"], plan=planned)
    # No step of this operation touches a service.
    services = cast(Provisioning, None)
    run = OperationRun(saga, registry, services, OperationTerms(operation.id, "bench", 1, site), run="bench")
    run.set_state(OperationState.RUNNING)
    run.hold("n1")
    return run


def _site() -> dict[str, object]:
    node = {
        "name": "n1",
        "rack": "r1",
        "firmware": "bios",
        "image": "debian-12",
        "bmc": {"driver": "ipmi", "address": "127.0.0.1", "credential": "none"},
        "nics": [{"name": "eth0", "mac": "52:54:00:00:00:01", "network": "p", "address": "192.0.2.10"}],
    }
    network = {
        "name": "p",
        "purpose": "provisioning",
        "cidr": "192.0.2.0/24",
        "interface": "eth0",
        "server_address": "192.0.2.1",
    }
    return {
        "site": {"name": "bench"},
        "zones": [{"name": "z"}],
        "racks": [{"name": "r1", "zone": "z"}],
        "networks": [network],
        "images": [{"name": "debian-12"}],
        "nodes": [node],
    }


def test_overhead_of_a_step(server: PrefectServer, tmp_path: Path) -> None:
    os.environ.update(server.environment())
    from prefect import flow

    from tasks.steps import do_task

    steps = [Step(name=f"noop-{i}", title="Nothing", do=_nothing, undo=Undo.NO_EFFECT) for i in range(STEPS)]
    run = _operation(tmp_path, steps)
    took_ms: list[float] = []

    @flow(name="bench-steps", persist_result=False)
    async def measure() -> None:
        for step in steps:
            task = do_task(step)
            began = time.perf_counter()
            await task(run, "n1")
            took_ms.append((time.perf_counter() - began) * 1000)

    asyncio.run(measure())
    status = run.status()
    run.close()
    assert all(step.state.value == "succeeded" for step in status.steps)
    floor_ms = _floor_ms()
    _show(took_ms, floor_ms)


def _floor_ms() -> float:
    """One commit of SQLite with full synchronisation costs at least one flush of the disk: measured beside it."""
    samples = []
    # Beside the directory that the databases lie in; /tmp may be held in memory, where a flush costs nothing.
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as file:
        for _ in range(50):
            began = time.perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
            samples.append((time.perf_counter() - began) * 1000)
    return statistics.median(samples)


def _show(took_ms: list[float], floor_ms: float) -> None:
    median, p95 = statistics.median(took_ms), statistics.quantiles(took_ms, n=20)[18]
    print(f"\nstep overhead (Prefect task + checkpoint commits), {len(took_ms)} steps one after the other:")
    print(f"  median {median:.1f} ms   p95 {p95:.1f} ms   floor (one fsync) {floor_ms:.2f} ms")
    print(f"  ratio to the floor of two commits: median {median / (2 * floor_ms):.1f}")
