"""Rollback: an operation is undone, step by step from its end."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import Field

from flows.life_cycle import take_back
from flows.parameters import Parallel

OperationId = Annotated[str, Field(description="Id of the operation, as `levier operation list` shows it.")]


@flow(name="rollback", persist_result=False, flow_run_name="rollback {operation}")
async def rollback(operation: OperationId, parallel: Parallel = 20) -> State[None]:
    """Undo every step of an operation, in reverse, to the state before it."""
    return await take_back(operation, parallel=parallel, reason="rolled back on request")
