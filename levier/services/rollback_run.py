"""The flow run that undoes an operation: the one place that says which request is a repeat of which."""

from __future__ import annotations

from levier.domain.operation import OperationStatus
from levier.services.prefect_gateway import PrefectGateway


def start_rollback(prefect: PrefectGateway, status: OperationStatus) -> str:
    """A flow run that undoes the operation is scheduled; its id. Safe to repeat until a worker moves the operation on.

    A run of an earlier request that ended before it came to anything is scheduled again.
    """
    key = f"rollback-{status.id}-{status.worked_seq}"
    run = prefect.start("rollback", {"operation": status.id}, idempotency_key=key)
    if prefect.run_state(run).ended:
        prefect.retry(run)
    return run
