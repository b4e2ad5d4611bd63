"""What an operation does next: waves, order, failure, unwinding, cancelling. The one place that decides it.

Nothing here talks to Prefect, a store or a machine: whoever conducts an operation brings the hands that do. The flows
bring Prefect's tasks (flows/wave.py), the simulation brings a simulated world, and both get the same decisions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from levier.domain.errors import LeaseLost, LevierError, StoreUnavailable
from levier.domain.operation import OperationState, OperationStatus, Settlement, UndoState
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

    async def unwinding(self, number: int | None, targets: Sequence[str]) -> None:
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
        staged = status.operation.staged
        for number, targets in status.operation.waves.items():
            await self.hands.wave(number, targets)
            if staged and (fallen := await self._fallen(number)):
                return await self.take_back(fallen)
        if await self.hands.cancel_requested():
            return await self._back()
        return await self.hands.settle()

    async def _fallen(self, number: int) -> str:
        """Why the stages after number `number` cannot be built on it; empty when they can."""
        if await self.hands.cancel_requested():
            return "cancelled"
        status = await self.hands.status()
        pillars = status.operation.pillars
        missing = [s for s in status.steps if s.wave == number and s.target in pillars and not s.done]
        return "; ".join({f"{s.target}: {status.targets[s.target].error}": None for s in missing})

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
        if status.operation.staged:
            await self._back_by_stages(status)
        elif standing:
            await self.hands.unwinding(None, [name for name in status.operation.targets if name in standing])
        return await self.hands.settle()

    async def _back_by_stages(self, status: OperationStatus) -> None:
        """The stages are undone, the last one first, until one cannot be: what it was built on stays under it."""
        if irreversible := irreversible_steps(status, self.registry):
            named = ", ".join(f"{s.step} on {s.target}" for s in irreversible)
            return self.hands.tell(f"{named} cannot be undone; all of it is held as it is")
        for number in sorted({s.wave for s in status.stands}, reverse=True):
            await self.hands.unwinding(number, _standing(status, number))
            status = await self.hands.status()
            if any(s.wave == number and s.undo is not UndoState.ABANDONED for s in status.stands):
                return self.hands.tell(f"stage {number} is not undone, and what is under it is left as it is")
        return None

    # --- many targets -----------------------------------------------------------------------------------------------

    async def wave(self, number: int, targets: Sequence[str]) -> None:
        """Every target is through its steps of the wave, or undone, without regard to its siblings."""
        await self._each(targets, partial(self.forward, number=number))

    async def unwind(self, number: int | None, targets: Sequence[str]) -> None:
        """Every target is undone as far as that is possible; with a number, what that stage did to it."""
        await self._each(targets, partial(self.backward, number=number))

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

    async def forward(self, target: str, *, number: int) -> None:
        """The target is through its steps of the wave, or undone because one failed or the operation was cancelled.

        What other targets build on is not undone here: the stages above it go first (`carry_out`).
        """
        status = await self.hands.status(target)
        own = status.operation.plan  # of one target's status: its part of the plan
        if any(p.wave < number and not status.step(p.step, target).done for p in own):
            return None  # it fell in an earlier stage
        for planned in (p for p in own if p.wave == number):
            step = self.registry.get(planned.step)
            if await self.hands.cancel_requested():
                return await self._stop(status, target, f"cancelled before {step.name}")
            try:
                await self.hands.do_step(step, target)
            except FENCED:
                raise
            except Exception as error:  # noqa: BLE001 - a defect in a step fails its target as well, and is undone as well
                return await self._stop(status, target, f"{step.name} failed: {error}")
        if number == max(p.wave for p in own):
            await self.hands.release(target)
        return None

    async def _stop(self, status: OperationStatus, target: str, why: str) -> None:
        if status.operation.staged and (target in status.operation.pillars or await self.hands.cancel_requested()):
            return self.hands.tell(f"{target}: {why}; the operation goes no further")
        self.hands.tell(f"{target}: {why}; undoing this target")
        return await self.backward(target, number=None)

    async def backward(self, target: str, *, number: int | None) -> None:
        """Nothing of the operation (or of one of its stages) stands on the target, or both errors are in the log."""
        status = await self.hands.status(target)
        irreversible = [s.step for s in irreversible_steps(status, self.registry, target)]
        if irreversible:
            # Undoing what came after it would leave neither the old nor the new: it is held as it is.
            self.hands.tell(f"{target}: {', '.join(irreversible)} cannot be undone; it is held as it is")
            return
        plan = [name for name, _ in unwind_plan(status, target) if number in (None, status.step(name, target).wave)]
        try:
            await self._undo([self.registry.get(name) for name in plan], target)
        except FENCED:
            raise
        except LevierError as error:
            self.hands.tell(f"{target}: {error}; it is left as it is until an operator decides")
            return
        left = [s for s in (await self.hands.status(target)).stands if s.target == target]
        given_up = [s.step for s in left if s.undo is UndoState.ABANDONED]
        if given_up:
            self.hands.tell(f"{target}: {', '.join(given_up)} stands; it keeps its lease until it is abandoned")
        elif not left:
            await self.hands.release(target)

    async def _undo(self, steps: Sequence[Step[Any]], target: str) -> None:
        """The steps are undone, one after the other. Raises what the first undo that fails raises."""
        if any(step.needs_lease for step in steps):
            await self.hands.hold(target)  # a target that was ready had its lease released
        # Without such a step the operation never held the target: another one may, and is not to be waited for.
        for step in steps:
            await self.hands.undo_step(step, target)


def _standing(status: OperationStatus, number: int) -> list[str]:
    """The targets on which something of the stage stands, in the order of the plan."""
    standing = {s.target for s in status.stands if s.wave == number}
    return [name for name in status.operation.waves[number] if name in standing]
