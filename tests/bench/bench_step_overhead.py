"""What a step costs beyond its own work: Prefect task and checkpoint commits, against calling the function."""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect_server import PrefectServer

from levier.domain.operation import JsonMap, OperationState
from levier.saga.step import Step, Undo
from levier.services.context import NodeContext
from levier.services.operation_run import OperationRun
from levier.store.base import open_engine
from levier.store.migrate import upgrade
from tests.rig.worker import NODE, bare_worker

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
    run = bare_worker(engine, directory, steps)
    run.set_state(OperationState.RUNNING)
    run.hold(NODE)
    return run


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
            await task(run, NODE)
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
