"""Two real workers on one operation: one is paused past its lease, the other takes over, the first one goes on."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from levier import bootstrap
from levier.domain.operation import OperationState, OperationStatus
from levier.saga.recovery import RecoveryVerb, RunState, plan_recovery
from levier.services.registry import Services
from tests.faults.rack import FaultRack
from tests.faults.worker import FENCED, carry_out, order, services_with, take_back, work
from tests.integration.saga_faults import now
from tests.rig.pausing import paused_outside_a_transaction

LEASE_S = 2.0
PAUSED_IN = ("inspect-bmc", "power-on", "await-agent", "write-image", "boot-host", "apply-baseline")
"""In conversations with the BMC, waits for the agent, and conversations with the host."""


def until(condition: Callable[[], bool], what: str, *, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s for {what}"
        time.sleep(0.005)  # between two looks


@pytest.mark.parametrize("direction", ["resume", "unwind"])
@pytest.mark.parametrize("step", PAUSED_IN)
def test_a_paused_worker_commands_nothing_more(rack: FaultRack, step: str, direction: str) -> None:
    settings = replace(rack.settings, patience=replace(rack.settings.patience, lease_s=LEASE_S))
    services = services_with(settings)
    database = Path(settings.database_url.removeprefix("sqlite:///"))
    with rack.a_node() as node:
        operation, first = _paused_worker(services, step, node, database)
        try:
            assert first.pid is not None
            until(lambda: _given_up(services.operations.status(operation)), "the lease to expire")
            if direction == "resume":
                assert carry_out(services, operation).state is OperationState.SUCCEEDED
            else:
                assert take_back(services, operation).state is OperationState.ROLLED_BACK
            log, place = services.operations.status(operation), rack.place()
            os.kill(first.pid, signal.SIGCONT)
            first.join(60)
            assert first.exitcode == FENCED
        finally:
            first.kill()
            first.join()
        assert services.operations.status(operation) == log, "not one event by the fenced-off worker"
        after = [e for e in rack.page(node, since=place).events if not _half_login_forgotten(e)]
        assert after == [], "not one command by the fenced-off worker"
        if direction == "resume":
            take_back(services, operation)


def _half_login_forgotten(event: dict[str, Any]) -> bool:
    """The BMC forgets a login that stopped half-way: the worker was paused in it, and sent nothing of it afterwards."""
    return event["kind"] == "bmc-auth-failed" and "client gave up" in event["detail"]["reason"]


def _paused_worker(services: Services, step: str, node: str, database: Path) -> tuple[str, BaseProcess]:
    """An operation in that step or not far behind it, and its worker, which is stopped.

    This computer may stand still between the step's beginning and the stop, and the worker be through by then.
    """
    for _ in range(5):
        operation = order(services, "expand", [node])
        how = (services.settings, (), operation, False)
        worker = multiprocessing.get_context("forkserver").Process(target=work, args=how)
        worker.start()
        assert worker.pid is not None
        try:
            _pause_in(worker.pid, step, services, operation, node, database)
            paused = services.operations.status(operation).state is OperationState.RUNNING and worker.is_alive()
        except BaseException:
            worker.kill()
            raise
        if paused:
            return operation, worker
        worker.kill()
        worker.join()
        take_back(services, operation)
    raise AssertionError(f"no worker was stopped before it was through, from {step} on")


def _pause_in(pid: int, step: str, services: Services, operation: str, node: str, database: Path) -> None:
    until(lambda: services.operations.status(operation).step(step, node).state != "pending", f"{step} to begin")
    until(lambda: paused_outside_a_transaction(pid, database), "the worker to be stopped")


def _given_up(status: OperationStatus) -> bool:
    """Recovery takes the operation away from its worker, whose flow run is said to be running."""
    runs = {status.run: RunState.RUNNING}
    (action,) = plan_recovery([status], now=now(), runs=runs, code_version=bootstrap.__version__)
    return action.verb is not RecoveryVerb.LEAVE
