"""The conductor's hands without an orchestrator: attempts as the policies grant them, waves in this process.

What Prefect adds to it is tested end to end elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from levier.domain.errors import LevierError
from levier.domain.operation import OperationState, OperationStatus, Settlement
from levier.saga.conductor import Conductor
from levier.saga.step import Step, should_retry
from levier.services.operation_run import OperationRun

PAUSE_SHARE = 0.02
"""Of the pause between two attempts; how many there are is left alone."""


class DirectHands:
    """Carries out one operation in this process; see levier.saga.conductor.Hands."""

    def __init__(
        self, run: OperationRun, parallel: int, *, before_step: Callable[[str, str], None] | None = None
    ) -> None:
        """`before_step` is called with step and target before the step's first attempt, which waits for it."""
        self._run = run
        self._parallel = parallel
        self._before_step = before_step
        self.told: list[str] = []

    @property
    def conductor(self) -> Conductor:
        """The conductor with these hands."""
        return Conductor(self, self._run.registry, self._parallel)

    async def status(self, target: str | None = None) -> OperationStatus:
        return await self._run.call(self._run.status, target)

    async def cancel_requested(self) -> bool:
        return await self._run.call(self._run.cancel_requested)

    async def set_state(self, state: OperationState, reason: str = "") -> None:
        await self._run.call(self._run.set_state, state, reason)

    async def settle(self) -> Settlement:
        return await self._run.call(self._run.settle)

    async def do_step(self, step: Step[Any], target: str) -> None:
        if self._before_step is not None:
            await asyncio.to_thread(self._before_step, step.name, target)
        await self._attempts(step, lambda: self._run.do(step, target))

    async def undo_step(self, step: Step[Any], target: str) -> None:
        await self._attempts(step, lambda: self._run.undo(step, target))

    async def _attempts(self, step: Step[Any], act: Callable[[], object]) -> None:
        attempt = 1
        while True:
            try:
                await self._run.call(act)
                return
            except LevierError as error:
                pause_s = should_retry(step, error, attempt)
                if pause_s is None:
                    raise
            await asyncio.sleep(pause_s * PAUSE_SHARE)
            attempt += 1

    async def hold(self, target: str) -> None:
        await self._run.call(self._run.hold, target)

    async def release(self, target: str) -> None:
        await self._run.call(self._run.release, target)

    async def wave(self, number: int, targets: Sequence[str]) -> None:
        await self.conductor.wave(number, targets)

    async def unwinding(self, number: int | None, targets: Sequence[str]) -> None:
        await self.conductor.unwind(number, targets)

    def tell(self, message: str) -> None:
        self.told.append(message)
