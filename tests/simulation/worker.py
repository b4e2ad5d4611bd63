"""A flow run's process: the real conductor and the real saga, with simulated hands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from levier.domain.errors import LeaseLost, LevierError, StoreUnavailable
from levier.domain.operation import Fence, OperationState, OperationStatus, Settlement
from levier.saga.conductor import Conductor
from levier.saga.engine import Saga
from levier.saga.step import Step, StepRegistry, should_retry
from levier.saga.store_patience import StorePatience
from tests.simulation.kernel import Kernel, Process
from tests.simulation.steps import Context
from tests.simulation.store import Store
from tests.simulation.world import World

P = ParamSpec("P")
T = TypeVar("T")
BEAT_S = 5.0
ATTEMPTS = 5
"""As Prefect's tasks have (tasks/steps.py)."""
GOOD_ENDS = (OperationState.SUCCEEDED, OperationState.ROLLED_BACK, OperationState.CANCELLED)


@dataclass
class Surroundings:
    """What every process of a history shares."""

    kernel: Kernel
    store: Store
    world: World
    registry: StepRegistry
    make_saga: Callable[[Process], Saga]
    runs: Callable[[str], bool]
    """Whether the orchestrator says that the flow run runs."""


class Worker:
    """One process on one operation, from taking over to the end; `end` is called with how its flow ended."""

    def __init__(
        self, around: Surroundings, process: Process, *, operation: str, run: str, kind: str, parallel: int
    ) -> None:
        self.around = around
        self.process = process
        self.operation = operation
        self._run = run
        self._kind = kind
        self._runs = around.runs
        self._parallel = parallel
        self._patience = StorePatience(wait=self._wait, clock=lambda: around.kernel.now_s)
        self._impatient = around.make_saga(process)
        self.saga = self._impatient.patient(self._patience)
        self.fence = Fence(operation, 0, process.name)
        self.seen_alive_s = 0.0

    def _wait(self, seconds: float) -> bool:
        self.around.kernel.sleep(seconds)
        return False

    async def main(self) -> bool | None:
        """Whether the flow ended well; None when it is not for this process to say. Raises what the flow raises."""
        kernel = self.around.kernel
        self.fence = await self.call(self.saga.begin, self.operation, worker=self.process.name, run=self._run)
        kernel.tell(self.process.name, f"takes {self.operation} over, generation {self.fence.generation}")
        self.seen_alive_s = kernel.now_s
        if not await self.call(self._runs, self._run):
            return None  # as flows/life_cycle.py leaves silently
        heart = kernel.thread(self.process, self._beat)
        conductor = Conductor(self, self.around.registry, self._parallel)
        try:
            if self._kind == "rollback":
                settlement = await conductor.take_back("rolled back on request")
            else:
                settlement = await conductor.carry_out()
        finally:
            kernel.forget(heart)
        kernel.tell(self.process.name, f"{self.operation} {settlement.state}: {settlement.reason}")
        return settlement.state in GOOD_ENDS

    async def over(self) -> bool | None:
        """Whether the operation ended well; None when it is not over."""
        ended = await self.call(self.saga.over, self.operation)
        return None if ended is None else ended.state in GOOD_ENDS

    async def superseded(self) -> bool:
        """Whether another process of the same flow run goes on."""
        return await self.call(self.saga.superseded, self.fence, self._run)

    def _beat(self) -> None:
        pause_s = 0.0
        while True:
            self.around.kernel.sleep(pause_s)
            pause_s = BEAT_S
            try:
                self._impatient.renew(self.fence)
                self.seen_alive_s = self.around.kernel.now_s
            except LeaseLost:
                return
            except StoreUnavailable:
                pause_s = 1.0

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        if not self.process.alive:
            raise asyncio.CancelledError
        return self.around.kernel.call(self.process, function, *args, **kwargs)

    def _context(self, target: str) -> Context:
        def stored(work: Callable[[], str]) -> str:
            return self._patience.call(self.around.store.transaction, self.process, self.fence, work)

        return Context(self.around.world, self.saga, self.fence, target, stored)

    # --- the conductor's hands --------------------------------------------------------------------------------------

    async def status(self, target: str | None = None) -> OperationStatus:
        return await self.call(self.saga.status, self.operation, target=target)

    async def cancel_requested(self) -> bool:
        return await self.call(self.saga.cancel_requested, self.operation)

    async def set_state(self, state: OperationState, reason: str = "") -> None:
        await self.call(self.saga.set_state, self.fence, state, {"reason": reason} if reason else {})

    async def settle(self) -> Settlement:
        return await self.call(self.saga.settle, self.fence)

    async def do_step(self, step: Step[Any], target: str) -> None:
        await self._attempts(step, lambda: self.saga.run(self.fence, step, self._context(target), target=target))

    async def undo_step(self, step: Step[Any], target: str) -> None:
        await self._attempts(step, lambda: self.saga.undo(self.fence, step, self._context(target), target=target))

    async def _attempts(self, step: Step[Any], attempt: Callable[[], object]) -> None:
        """As Prefect repeats a task: by the class of the error, at most so often."""
        number = 1
        while True:
            try:
                await self.call(attempt)
                return
            except LevierError as error:
                delay_s = should_retry(step, error, number)
                if delay_s is None or number == ATTEMPTS:
                    raise
                await asyncio.sleep(delay_s)
            number += 1

    async def hold(self, target: str) -> None:
        await self.call(self.saga.acquire_lease, self.fence, target)

    async def release(self, target: str) -> None:
        await self.call(self.saga.release_lease, self.fence, target)

    async def wave(self, number: int, targets: Sequence[str]) -> None:
        await Conductor(self, self.around.registry, self._parallel).wave(number, targets)

    async def unwinding(self, number: int | None, targets: Sequence[str]) -> None:
        await Conductor(self, self.around.registry, self._parallel).unwind(number, targets)

    def tell(self, message: str) -> None:
        self.around.kernel.tell(self.process.name, message)
