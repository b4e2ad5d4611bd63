"""The flow run that undoes an operation: the one place that says which request is a repeat of which."""

from __future__ import annotations

from datetime import datetime, timedelta

from levier.domain.operation import OperationStatus
from levier.saga.recovery import BEGIN_S, RunState
from levier.services.prefect_gateway import FlowRunState, PrefectGateway


def start_rollback(prefect: PrefectGateway, status: OperationStatus, *, now: datetime | None = None) -> str:
    """A flow run that undoes the operation is scheduled; its id. Safe to repeat until a worker moves the operation on.

    A run of an earlier request that ended before it came to anything is scheduled again, and so is, with `now`, one
    that was to take the operation over long ago: its process died with its runner.
    """
    key = f"rollback-{status.id}-{status.worked_seq}"
    run = prefect.start("rollback", {"operation": status.id}, idempotency_key=key)
    found = prefect.find(run)
    if found is not None and (found.run_state.ended or _never_began(found, status, now)):
        prefect.retry(run)
    return run


def _never_began(run: FlowRunState, status: OperationStatus, now: datetime | None) -> bool:
    if now is None or run.since is None or run.run_state is not RunState.RUNNING or status.run == run.flow_run_id:
        return False
    return now > run.since + timedelta(seconds=BEGIN_S)
