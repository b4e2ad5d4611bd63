"""The conductor with plain hands: a saga, a case of the fault harness, no Prefect and no waiting between attempts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from levier.domain.errors import LevierError
from levier.domain.operation import OperationState, OperationStatus, Settlement
from levier.saga.conductor import Conductor
from levier.saga.step import Step, StepRegistry
from tests.integration.saga_faults import Worker


@dataclass
class PlainHands:
    """levier.saga.conductor.Hands over one worker of one operation."""

    worker: Worker
    told: list[str] = field(default_factory=list)

    @property
    def conductor(self) -> Conductor:
        registry = StepRegistry()
        registry.add(*self.worker.case.steps)
        return Conductor(self, registry, parallel=1)

    async def status(self, target: str | None = None) -> OperationStatus:
        return self.worker.saga.status(self.worker.fence.operation, target=target)

    async def cancel_requested(self) -> bool:
        return self.worker.saga.cancel_requested(self.worker.fence.operation)

    async def set_state(self, state: OperationState, reason: str = "") -> None:
        self.worker.saga.set_state(self.worker.fence, state, {"reason": reason} if reason else {})

    async def settle(self) -> Settlement:
        return self.worker.saga.settle(self.worker.fence)

    async def do_step(self, step: Step[Any], target: str) -> None:
        self._patiently(step, lambda: self.worker.saga.run(*self._arguments(step), target=target))

    async def undo_step(self, step: Step[Any], target: str) -> None:
        self._patiently(step, lambda: self.worker.saga.undo(*self._arguments(step), target=target))

    def _arguments(self, step: Step[Any]) -> tuple[Any, Step[Any], Any]:
        return self.worker.fence, step, self.worker.context()

    def _patiently(self, step: Step[Any], call: Any) -> None:
        attempt = 1
        while True:
            try:
                call()
                return
            except LevierError as error:
                if self.worker.saga.should_retry(step, error, attempt) is None:
                    raise
                attempt += 1

    async def hold(self, target: str) -> None:
        self.worker.saga.acquire_lease(self.worker.fence, target)

    async def release(self, target: str) -> None:
        self.worker.saga.release_lease(self.worker.fence, target)

    async def wave(self, number: int, targets: Sequence[str]) -> None:
        await self.conductor.wave(number, targets)

    async def unwinding(self, number: int | None, targets: Sequence[str]) -> None:
        await self.conductor.unwind(number, targets)

    def tell(self, message: str) -> None:
        self.told.append(message)


def carried_out(worker: Worker) -> Settlement:
    """How the operation ended when this worker carried it out."""
    return asyncio.run(PlainHands(worker).conductor.carry_out())


def taken_back(worker: Worker) -> Settlement:
    """How the operation ended when this worker took it back."""
    return asyncio.run(PlainHands(worker).conductor.take_back("rolled back on request"))
