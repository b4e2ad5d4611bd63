"""What a flow does around its steps: planning, taking over and settling an operation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect.runtime import flow_run

from levier import bootstrap
from levier.services.operation_run import OperationRun

_running: dict[str, OperationRun] = {}
"""The operations that this process carries out now: a sub-flow has only strings as parameters to find them by."""


def plan(kind: str, nodes: list[str], options: dict[str, Any]) -> str:
    """The operation of this flow run is planned; its id. Safe to repeat: a retry finds it again."""
    services = bootstrap.services()
    return services.operations.plan(kind, nodes, options, flow_run_id=str(flow_run.id), who="flow run")


@contextmanager
def take_over(operation: str) -> Iterator[OperationRun]:
    """This process is the operation's only worker until the end of the block; any other one is fenced off."""
    run = bootstrap.services().operations.take_over(operation, flow_run_id=str(flow_run.id))
    _running[operation] = run
    try:
        yield run
    finally:
        del _running[operation]
        run.close()


def running(operation: str) -> OperationRun:
    """The operation that this process took over."""
    return _running[operation]
