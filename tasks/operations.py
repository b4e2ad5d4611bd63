"""What a flow does around its steps: planning, taking over and settling an operation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect import get_run_logger
from prefect.runtime import flow_run

from levier import bootstrap
from levier.domain.operation import Settlement
from levier.saga.store_patience import StorePatience
from levier.services.operation_run import OperationRun

_running: dict[str, OperationRun] = {}
"""The operations that this process carries out now: a sub-flow has only strings as parameters to find them by."""


def plan(kind: str, nodes: list[str], options: dict[str, Any]) -> str:
    """The operation of this flow run is planned; its id. Safe to repeat: a retry finds it again."""
    patience = StorePatience(tell=get_run_logger().warning)
    services = patience.call(bootstrap.services)
    run = str(flow_run.id)
    return patience.call(services.operations.plan, kind, nodes, options, flow_run_id=run, who="flow run")


def over(operation: str) -> Settlement | None:
    """How the operation ended for good; None when it did not. Safe to repeat."""
    patience = StorePatience(tell=get_run_logger().warning)
    return patience.call(patience.call(bootstrap.services).operations.over, operation)


def runs(run: str) -> bool:
    """Prefect says that the flow run runs. Safe to repeat.

    Not so when this process was stopped before it could take its operation over, and others have brought it to an end.
    """
    return bootstrap.services().operations.runs(run)


@contextmanager
def take_over(operation: str) -> Iterator[OperationRun]:
    """This process is the operation's only worker until the end of the block; any other one is fenced off."""
    tell = get_run_logger().warning
    services = StorePatience(tell=tell).call(bootstrap.services)
    run = services.operations.take_over(operation, flow_run_id=str(flow_run.id), tell=tell)
    _running[operation] = run
    try:
        yield run
    finally:
        del _running[operation]
        run.close()


def running(operation: str) -> OperationRun:
    """The operation that this process took over."""
    return _running[operation]
