"""The conductor's hands: its steps are Prefect's tasks, its waves are flow runs, the rest is the operation's worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect import flow, get_run_logger

from levier.domain.operation import OperationState, OperationStatus, Settlement
from levier.saga.conductor import Conductor
from levier.saga.step import Step
from levier.services.operation_run import OperationRun
from tasks.operations import running
from tasks.steps import doing, undoing


class PrefectHands:
    """Carries out one operation by way of Prefect; see levier.saga.conductor.Hands."""

    def __init__(self, run: OperationRun, parallel: int) -> None:
        self._run = run
        self._parallel = parallel

    async def status(self, target: str | None = None) -> OperationStatus:
        """See Hands."""
        return await self._run.call(self._run.status, target)

    async def cancel_requested(self) -> bool:
        """See Hands."""
        return await self._run.call(self._run.cancel_requested)

    async def set_state(self, state: OperationState, reason: str = "") -> None:
        """See Hands."""
        await self._run.call(self._run.set_state, state, reason)

    async def settle(self) -> Settlement:
        """See Hands."""
        return await self._run.call(self._run.settle)

    async def do_step(self, step: Step[Any], target: str) -> None:
        """See Hands."""
        await doing(step)(self._run, target)

    async def undo_step(self, step: Step[Any], target: str) -> None:
        """See Hands. A step without an undo function gets no task: there would be nothing to see."""
        if self._run.acts_on_undo(step):
            await undoing(step)(self._run, target)
        else:
            await self._run.call(self._run.undo, step, target)

    async def hold(self, target: str) -> None:
        """See Hands."""
        await self._run.call(self._run.hold, target)

    async def release(self, target: str) -> None:
        """See Hands."""
        await self._run.call(self._run.release, target)

    async def wave(self, number: int, targets: Sequence[str]) -> None:
        """See Hands."""
        await wave(self._run.operation, number, list(targets), self._parallel)

    async def unwinding(self, number: int | None, targets: Sequence[str]) -> None:
        """See Hands."""
        await unwinding(self._run.operation, number, list(targets), self._parallel)

    def tell(self, message: str) -> None:
        """See Hands."""
        get_run_logger().error(message)


def conductor(run: OperationRun, parallel: int) -> Conductor:
    """The conductor of the operation that this process took over."""
    return Conductor(PrefectHands(run, parallel), run.registry, parallel)


@flow(name="wave", flow_run_name="{operation} wave {number}", validate_parameters=False, persist_result=False)
async def wave(operation: str, number: int, nodes: list[str], parallel: int) -> None:
    """Every node of the wave is through its steps, or undone; `parallel` of them at a time."""
    await conductor(running(operation), parallel).wave(number, nodes)


@flow(name="unwinding", flow_run_name="{operation} unwinding", validate_parameters=False, persist_result=False)
async def unwinding(operation: str, number: int | None, nodes: list[str], parallel: int) -> None:
    """Every node is undone as far as that is possible, or what stage `number` did to it; `parallel` at a time."""
    await conductor(running(operation), parallel).unwind(number, nodes)
