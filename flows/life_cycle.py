"""What every life-cycle flow does with its operation: it lets it be conducted, and tells Prefect a true result."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable

from prefect import get_run_logger
from prefect.client.schemas.objects import State
from prefect.logging.handlers import APILogHandler
from prefect.states import Completed, Failed

from flows.wave import conductor
from levier.domain.errors import Conflict, LeaseLost
from levier.domain.operation import OperationState, Settlement
from levier.saga.conductor import Conductor
from levier.services.operation_run import OperationRun
from tasks.operations import over, runs, take_over


async def carry_out(operation: str, *, parallel: int) -> State[None]:
    """The operation has ended as far as it can be brought; the state says how each target came out."""
    return await _conducted(operation, parallel, lambda conducting: conducting.carry_out())


async def take_back(operation: str, *, parallel: int, reason: str) -> State[None]:
    """The operation is undone as far as that is possible; the state says what stands."""
    return await _conducted(operation, parallel, lambda conducting: conducting.take_back(reason))


async def _conducted(operation: str, parallel: int, work: Callable[[Conductor], Awaitable[Settlement]]) -> State[None]:
    try:
        with take_over(operation) as run:
            if not await run.call(runs, run.flow_run):
                await _leave_silently("this flow run has come to its end without this process")
            return _told(operation, await _unless_superseded(run, work(conductor(run, parallel))))
    except Conflict:
        # It is over: the process before this one died after that and before it could tell. It is told now.
        ended = over(operation)
        if ended is None:
            raise
        return _told(operation, ended)


async def _unless_superseded(run: OperationRun, work: Awaitable[Settlement]) -> Settlement:
    try:
        return await work
    except LeaseLost as error:
        if await run.call(run.superseded):
            await _leave_silently(str(error))
        raise


async def _leave_silently(why: str) -> None:
    """This process is gone and has told Prefect nothing of its flow run: another process does, or did.

    Its end would overwrite the state that the other one has given the run, and recovery would start a third.
    """
    get_run_logger().warning("%s; this process ends and leaves the flow run to another one", why)
    await APILogHandler.aflush()
    os._exit(0)


def _told(operation: str, settlement: Settlement) -> State[None]:
    message = f"{operation} {settlement.state.value}: {settlement.reason or 'all targets ready'}"
    wanted = {OperationState.SUCCEEDED, OperationState.ROLLED_BACK, OperationState.CANCELLED}
    return Completed(message=message) if settlement.state in wanted else Failed(message=message)
