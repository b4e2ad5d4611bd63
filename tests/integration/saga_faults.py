"""Faults for any saga, by construction: whoever has steps and a way to look at the world gets all of these tests.

A case says what the steps are, how to make their context, and how to see whether the world is as it should be. The
harness fails a step, repeats it, fails its undo, and kills a real process around it; then another worker resumes or
unwinds, and the case looks.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from levier.domain.errors import LevierError, OutcomeUnknown, Rejected
from levier.domain.operation import (
    Fence,
    JsonMap,
    Operation,
    OperationState,
    OperationStatus,
    PlannedStep,
    StepEvent,
    StepEventKind,
)
from levier.saga.engine import Saga
from levier.saga.step import Checkpoint, Step, Undo
from levier.store.base import open_engine
from levier.store.step_log import SqlStepLog

C = TypeVar("C")
VERSION = "1.0.0"
CHILD_S = 60


class SagaCase(Protocol):
    """A saga to be tested."""

    @property
    def target(self) -> str: ...

    @property
    def steps(self) -> Sequence[Step[Any]]: ...

    def context(self, saga: Saga, fence: Fence) -> Any:
        """A context for the steps; made anew in every process."""
        ...

    def check_done(self) -> None:
        """The world is as it should be after all steps, and nothing destructive happened twice."""
        ...

    def check_undone(self) -> None:
        """The world is as it was before the operation."""
        ...


class Kill(StrEnum):
    """Where a process is killed: always around a commit, which is where what is true and what is known part."""

    BEFORE_START = "before `started` is committed"
    BEFORE_EFFECT = "after `started`, before the side effect"
    BEFORE_COMMIT = "after the side effect, before `succeeded` is committed"
    AFTER_COMMIT = "after `succeeded`"
    BEFORE_UNDO = "after `undo-started`, before the undo's side effect"
    BEFORE_UNDO_COMMIT = "after the undo's side effect, before `undone` is committed"
    AFTER_UNDO = "after `undone`"

    @property
    def while_undoing(self) -> bool:
        return self in (Kill.BEFORE_UNDO, Kill.BEFORE_UNDO_COMMIT, Kill.AFTER_UNDO)

    @property
    def event(self) -> tuple[StepEventKind, bool]:
        """The event around which it happens, and whether after its commit."""
        return {
            Kill.BEFORE_START: (StepEventKind.STARTED, False),
            Kill.BEFORE_EFFECT: (StepEventKind.STARTED, True),
            Kill.BEFORE_COMMIT: (StepEventKind.SUCCEEDED, False),
            Kill.AFTER_COMMIT: (StepEventKind.SUCCEEDED, True),
            Kill.BEFORE_UNDO: (StepEventKind.UNDO_STARTED, True),
            Kill.BEFORE_UNDO_COMMIT: (StepEventKind.UNDONE, False),
            Kill.AFTER_UNDO: (StepEventKind.UNDONE, True),
        }[self]


class DeadlyLog(SqlStepLog):
    """The real log; around one event of one step, the process is killed."""

    def __init__(self, url: str, step: str, kill: Kill) -> None:
        super().__init__(open_engine(url))
        self._step = step
        self._kind, self._after = kill.event

    def append(self, fence: Fence, *, step: str, kind: StepEventKind, **rest: Any) -> StepEvent:
        deadly = (step, kind) == (self._step, self._kind)
        if deadly and not self._after:
            os.kill(os.getpid(), signal.SIGKILL)
        event = super().append(fence, step=step, kind=kind, **rest)
        if deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return event


@dataclass(frozen=True, slots=True)
class Worker:
    """One process's view: a saga on a database, and an operation begun."""

    saga: Saga
    fence: Fence
    case: SagaCase

    def status(self) -> OperationStatus:
        return self.saga.status(self.fence.operation)

    def context(self) -> Any:
        return self.case.context(self.saga, self.fence)

    def forward(self, *, up_to: str = "") -> None:
        """All steps (or those up to the one named), each with the attempts its retry policy allows, without waiting."""
        self.saga.set_state(self.fence, OperationState.RUNNING)
        ctx = self.context()
        for step in self.case.steps:
            self._patiently(step, lambda step=step: self.saga.run(self.fence, step, ctx, target=self.case.target))
            if step.name == up_to:
                return

    def backward(self) -> None:
        """Everything that stands is undone, each undo with the attempts its retry policy allows."""
        self.saga.set_state(self.fence, OperationState.UNWINDING)
        ctx = self.context()
        steps = {step.name: step for step in self.case.steps}
        for name, target in self.saga.unwind_plan(self.status()):
            step = steps[name]
            self._patiently(step, lambda step=step, target=target: self.saga.undo(self.fence, step, ctx, target=target))

    def _patiently(self, step: Step[Any], call: Callable[[], object]) -> None:
        attempt = 1
        while True:
            try:
                call()
                return
            except LevierError as error:
                if self.saga.should_retry(step, error, attempt) is None:
                    raise
                attempt += 1


def now() -> datetime:
    return datetime.now(UTC)


def make_saga(url: str) -> Saga:
    return Saga(SqlStepLog(open_engine(url)), now, VERSION)


def order(saga: Saga, case: SagaCase) -> Operation:
    """The operation, planned."""
    plan = [PlannedStep(step.name, case.target) for step in case.steps]
    return saga.create(kind="test", targets=[case.target], plan=plan)


def begun(saga: Saga, *nodes: str, kind: str = "expand") -> Fence:
    """An operation of one step for each node, running."""
    operation = saga.create(kind=kind, targets=nodes, plan=[PlannedStep("a", n) for n in nodes])
    fence = saga.begin(operation.id, worker=f"worker of {operation.id}")
    saga.set_state(fence, OperationState.RUNNING)
    return fence


def begin(saga: Saga, case: SagaCase, operation: str) -> Worker:
    return Worker(saga, saga.begin(operation, worker=f"worker-{os.getpid()}"), case)


@contextmanager
def process(body: Callable[[], None]) -> Iterator[multiprocessing.process.BaseProcess]:
    """A forked process that runs `body`; gone at the end, whatever happened."""

    def main() -> None:
        body()
        os._exit(0)  # the parent's test session is not to be finished here

    child = multiprocessing.get_context("fork").Process(target=main)
    child.start()
    try:
        yield child
    finally:
        child.kill()
        child.join(CHILD_S)


def killed_around(url: str, case: SagaCase, operation: str, step: str, kill: Kill) -> None:
    """A real process has carried the operation to this point and died there by SIGKILL."""

    def body() -> None:
        if kill.while_undoing:
            begin(make_saga(url), case, operation).forward()
            begin(Saga(DeadlyLog(url, step, kill), now, VERSION), case, operation).backward()
        else:
            begin(Saga(DeadlyLog(url, step, kill), now, VERSION), case, operation).forward()

    with process(body) as child:
        child.join(CHILD_S)
        assert child.exitcode == -signal.SIGKILL, f"the process was to die {kill} of {step}, got {child.exitcode}"


class Injected(Rejected):
    """A fault of the harness: it did not happen."""


class InjectedUnknown(OutcomeUnknown):
    """A fault of the harness: nobody knows whether it happened."""


@dataclass(slots=True)
class Faulty:
    """Counts the calls of a function and makes the first `times` of them fail, before or after the real work."""

    call: Callable[..., JsonMap]
    error: type[LevierError]
    times: int
    after: bool
    calls: int = 0

    def __call__(self, *args: Any) -> JsonMap:
        self.calls += 1
        if self.calls > self.times:
            return self.call(*args)
        if self.after:
            self.call(*args)
        raise self.error(f"injected at call {self.calls}", hint="it is a test")


def with_step(case: Any, changed: Step[Any]) -> Any:
    """The case with one step replaced by its changed form."""
    return replace(case, steps=tuple(changed if s.name == changed.name else s for s in case.steps))


def failing_do(step: Step[Any], *, error: type[LevierError], times: int, after: bool) -> tuple[Step[Any], Faulty]:
    faulty = Faulty(step.do, error, times, after)
    return replace(step, do=faulty), faulty


def failing_undo(step: Step[Any], *, times: int, after: bool) -> tuple[Step[Any], Faulty]:
    def real(ctx: Any, checkpoint: Checkpoint) -> JsonMap:
        return {} if isinstance(step.undo, Undo) else step.undo(ctx, checkpoint)

    faulty = Faulty(real, InjectedUnknown, times, after)
    return replace(step, undo=faulty), faulty
