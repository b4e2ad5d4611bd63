"""What an operation does next: waves, order, failure, unwinding, cancelling. The one place that decides it.

Nothing here talks to Prefect, a store or a machine: whoever conducts an operation brings the hands that do. The flows
bring Prefect's tasks (flows/wave.py), the simulation brings a simulated world, and both get the same decisions.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from levier.domain.errors import LeaseLost, LevierError, StoreUnavailable
from levier.domain.operation import OperationState, OperationStatus, Settlement
from levier.saga.step import Step, StepRegistry
from levier.saga.unwinding import irreversible_steps, unwind_plan

FENCED = (LeaseLost, StoreUnavailable)
"""What ends this worker's part: another one took over, or nothing can be logged. Neither is a failure of a step."""


class Hands(Protocol):
    """One worker's means of carrying out an operation. Whatever cannot be done is raised as a LevierError."""

    async def status(self, target: str | None = None) -> OperationStatus:
        """The fold of the operation's log, or of one target's part."""
        ...

    async def cancel_requested(self) -> bool:
        """Somebody asked for the operation to be stopped and undone."""
        ...

    async def set_state(self, state: OperationState, reason: str = "") -> None:
        """The operation is in `state`. Safe to repeat. Raises Conflict, LeaseLost."""
        ...

    async def settle(self) -> Settlement:
        """The operation is in the state that its targets add up to."""
        ...

    async def do_step(self, step: Step[Any], target: str) -> None:
        """The step is done, with the attempts that its retry policy allows. Raises what the last one raised."""
        ...

    async def undo_step(self, step: Step[Any], target: str) -> None:
        """The step is undone, with the attempts that its retry policy allows. Raises UndoFailed, Irreversible."""
        ...

    async def hold(self, target: str) -> None:
        """The operation holds the target. Safe to repeat. Raises Conflict naming the holder."""
        ...

    async def release(self, target: str) -> None:
        """The operation does not hold the target any more. Safe to repeat."""
        ...

    async def wave(self, number: int, targets: Sequence[str]) -> None:
        """`Conductor.wave` ran over these targets: here, or in a flow run of its own."""
        ...

    async def unwinding(self, targets: Sequence[str]) -> None:
        """`Conductor.unwind` ran over these targets: here, or in a flow run of its own."""
        ...

    def tell(self, message: str) -> None:
        """The message is where a person follows the operation."""
        ...


@dataclass(frozen=True, slots=True)
class Conductor:
    """Brings one operation forward or back, at most `parallel` targets of a wave at a time.

    Safe to begin anew at any point, by another process as well: what is done is known by the log.
    """

    hands: Hands
    registry: StepRegistry
    parallel: int

    # --- the operation ----------------------------------------------------------------------------------------------

    async def carry_out(self) -> Settlement:
        """The operation has ended as far as it can be brought, and this is how."""
        status = await self.hands.status()
        if status.state is OperationState.PLANNED and status.cancel_requested is not None:
            return await self._call_off("cancelled before it began")
        if status.state is OperationState.SUCCEEDED:
            # An earlier process died between the operation's end and its flow run's: the run is told the same end.
            return Settlement(OperationState.SUCCEEDED, "")
        if status.state is OperationState.UNWINDING:
            return await self._back()
        if status.goes_back:
            return await self.take_back("resumed")
        await self.hands.set_state(OperationState.RUNNING)
        for number, targets in waves(status).items():
            await self.hands.wave(number, targets)
        if await self.hands.cancel_requested():
            return await self._back()
        return await self.hands.settle()

    async def take_back(self, reason: str) -> Settlement:
        """The operation is undone as far as that is possible, and this is what it came to."""
        await self.hands.set_state(OperationState.UNWINDING, reason)
        return await self._back()

    async def _call_off(self, reason: str) -> Settlement:
        await self.hands.set_state(OperationState.CANCELLED, reason)
        return Settlement(OperationState.CANCELLED, reason)

    async def _back(self) -> Settlement:
        status = await self.hands.status()
        standing = {s.target for s in status.stands}
        for target in status.operation.targets:
            if target not in standing:
                # A worker that died between the last undo and the release left the lease behind.
                await self.hands.release(target)
        if standing:
            await self.hands.unwinding([name for name in status.operation.targets if name in standing])
        return await self.hands.settle()

    # --- many targets -----------------------------------------------------------------------------------------------

    async def wave(self, targets: Sequence[str]) -> None:
        """Every target is through its steps, or undone, without regard to its siblings."""
        await self._each(targets, self.forward)

    async def unwind(self, targets: Sequence[str]) -> None:
        """Every target is undone as far as that is possible."""
        await self._each(targets, self.backward)

    async def _each(self, targets: Sequence[str], work: Callable[[str], Awaitable[None]]) -> None:
        limit = asyncio.Semaphore(self.parallel)

        async def one(target: str) -> None:
            async with limit:
                await work(target)

        results = await asyncio.gather(*(one(target) for target in targets), return_exceptions=True)
        # Every target has come to its end before the first defect or lost lease is raised.
        for result in results:
            if isinstance(result, BaseException):
                raise result

    # --- one target -------------------------------------------------------------------------------------------------

    async def forward(self, target: str) -> None:
        """The target is through its steps, or undone because one failed or because the operation was cancelled."""
        status = await self.hands.status(target)
        for planned in status.operation.plan:
            step = self.registry.get(planned.step)
            if await self.hands.cancel_requested():
                self.hands.tell(f"{target}: cancelled before {step.name}; undoing")
                return await self.backward(target)
            try:
                await self.hands.do_step(step, target)
            except FENCED:
                raise
            except Exception as error:  # noqa: BLE001 - a defect in a step fails its target as well, and is undone as well
                self.hands.tell(f"{target}: {step.name} failed: {error}; undoing this target")
                return await self.backward(target)
        await self.hands.release(target)
        return None

    async def backward(self, target: str) -> None:
        """Nothing of the operation stands on the target, or what cannot be undone is in the log with both errors."""
        status = await self.hands.status(target)
        irreversible = [s.step for s in irreversible_steps(status, self.registry, target)]
        if irreversible:
            # Undoing what came after it would leave neither the old nor the new: it is held as it is.
            self.hands.tell(f"{target}: {', '.join(irreversible)} cannot be undone; it is held as it is")
            return
        try:
            await self._undo([self.registry.get(name) for name, _ in unwind_plan(status, target)], target)
        except FENCED:
            raise
        except LevierError as error:
            self.hands.tell(f"{target}: {error}; it is left as it is until an operator decides")
            return
        given_up = [s.step for s in (await self.hands.status(target)).stands if s.target == target]
        if given_up:
            self.hands.tell(f"{target}: {', '.join(given_up)} stands; it keeps its lease until it is abandoned")
            return
        await self.hands.release(target)

    async def _undo(self, steps: Sequence[Step[Any]], target: str) -> None:
        """The steps are undone, one after the other. Raises what the first undo that fails raises."""
        if any(step.needs_lease for step in steps):
            await self.hands.hold(target)  # a target that was ready had its lease released
        # Without such a step the operation never held the target: another one may, and is not to be waited for.
        for step in steps:
            await self.hands.undo_step(step, target)


def waves(status: OperationStatus) -> Mapping[int, Sequence[str]]:
    """Wave number → its targets, in the order of the plan."""
    found: dict[int, dict[str, None]] = defaultdict(dict)
    for planned in status.operation.plan:
        found[planned.wave][planned.target] = None
    return {number: list(found[number]) for number in sorted(found)}
