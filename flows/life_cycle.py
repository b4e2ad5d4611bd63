"""What every life-cycle flow does with its operation: forward in waves, back where that fails, and a true result."""

from __future__ import annotations

from collections import defaultdict

from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.wave import unwinding, wave
from levier.domain.operation import OperationState, OperationStatus
from levier.services.operation_run import OperationRun
from tasks.operations import take_over


async def carry_out(operation: str, *, parallel: int) -> State[None]:
    """The operation has ended as far as it can be brought; the state says how each target came out."""
    with take_over(operation) as run:
        status = await run.call(run.status)
        if status.state is OperationState.PLANNED and status.cancel_requested is not None:
            await run.call(run.call_off, "cancelled before it began")
            return Failed(message=f"{operation} was cancelled before it began")
        if status.state is OperationState.UNWINDING:
            return await _take_back(run, parallel)
        await run.call(run.go_forward)
        for number, nodes in _waves(status).items():
            await wave(operation, number, nodes, parallel)
        if await run.call(run.cancel_requested):
            return await _take_back(run, parallel)
        return await _result(run)


async def take_back(operation: str, *, parallel: int, reason: str) -> State[None]:
    """The operation is undone as far as that is possible; the state says what stands."""
    with take_over(operation) as run:
        await run.call(run.go_backward, reason)
        return await _take_back(run, parallel)


async def _take_back(run: OperationRun, parallel: int) -> State[None]:
    status = await run.call(run.status)
    nodes = [name for name in status.operation.targets if any(s.target == name for s in status.stands)]
    if nodes:
        await unwinding(run.operation, nodes, parallel)
    return await _result(run)


async def _result(run: OperationRun) -> State[None]:
    settlement = await run.call(run.settle)
    message = f"{run.operation} {settlement.state.value}: {settlement.reason or 'all targets ready'}"
    wanted = {OperationState.SUCCEEDED, OperationState.ROLLED_BACK, OperationState.CANCELLED}
    return Completed(message=message) if settlement.state in wanted else Failed(message=message)


def _waves(status: OperationStatus) -> dict[int, list[str]]:
    """Wave number → its nodes, in order."""
    waves: dict[int, dict[str, None]] = defaultdict(dict)
    for planned in status.operation.plan:
        waves[planned.wave][planned.target] = None
    return {number: list(waves[number]) for number in sorted(waves)}
