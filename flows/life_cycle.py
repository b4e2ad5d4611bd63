"""What every life-cycle flow does with its operation: it lets it be conducted, and tells Prefect a true result."""

from __future__ import annotations

from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.wave import conductor
from levier.domain.operation import OperationState, Settlement
from tasks.operations import take_over


async def carry_out(operation: str, *, parallel: int) -> State[None]:
    """The operation has ended as far as it can be brought; the state says how each target came out."""
    with take_over(operation) as run:
        return _told(operation, await conductor(run, parallel).carry_out())


async def take_back(operation: str, *, parallel: int, reason: str) -> State[None]:
    """The operation is undone as far as that is possible; the state says what stands."""
    with take_over(operation) as run:
        return _told(operation, await conductor(run, parallel).take_back(reason))


def _told(operation: str, settlement: Settlement) -> State[None]:
    message = f"{operation} {settlement.state.value}: {settlement.reason or 'all targets ready'}"
    wanted = {OperationState.SUCCEEDED, OperationState.ROLLED_BACK, OperationState.CANCELLED}
    return Completed(message=message) if settlement.state in wanted else Failed(message=message)
