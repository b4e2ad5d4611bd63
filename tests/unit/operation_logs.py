"""Making operation logs by hand, for tests of what is folded from them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from levier.domain.operation import (
    Operation,
    OperationEvent,
    OperationEventKind,
    OperationState,
    OperationStatus,
    PlannedStep,
    StepEvent,
    StepEventKind,
    fold_operation,
)

START = datetime(2026, 1, 1, tzinfo=UTC)


class LogBook:
    """A log that grows by one event a second."""

    def __init__(self, *, targets: tuple[str, ...] = ("n1",), steps: tuple[str, ...] = ("a", "b", "c")) -> None:
        self.operation = Operation(
            id="expand-1",
            kind="expand",
            targets=targets,
            plan=tuple(PlannedStep(s, t) for s in steps for t in targets),
            created=START,
            code_version="1.2.3",
            key="run-0",
        )
        self.operation_events: list[OperationEvent] = []
        self.step_events: list[StepEvent] = []
        self._seq = 0
        self.state("planned")

    def _next(self) -> tuple[int, datetime]:
        self._seq += 1
        return self._seq, START + timedelta(seconds=self._seq)

    def state(self, state: str, **detail: Any) -> LogBook:
        return self._operation_event(OperationEventKind.STATE, OperationState(state), detail)

    def taken_over(self, run: str = "run-1") -> LogBook:
        return self._operation_event(OperationEventKind.TAKEN_OVER, None, {"run": run})

    def cancel(self) -> LogBook:
        return self._operation_event(OperationEventKind.CANCEL_REQUESTED, None, {"who": "ann", "reason": "wrong rack"})

    def observed(self, target: str, **seen: Any) -> LogBook:
        detail = {"target": target, "problems": [], **seen}
        return self._operation_event(OperationEventKind.OBSERVED, None, detail)

    def _operation_event(
        self, kind: OperationEventKind, state: OperationState | None, detail: Mapping[str, Any]
    ) -> LogBook:
        seq, at = self._next()
        self.operation_events.append(OperationEvent(seq, self.operation.id, kind, at, state, detail, "w"))
        return self

    def step(self, step: str, target: str, *kinds: str, attempt: int = 1, **data: Any) -> LogBook:
        """The events follow each other; failures carry an error, successes outputs, unless `data` is given."""
        for name in kinds:
            kind = StepEventKind(name)
            seq, at = self._next()
            self.step_events.append(
                StepEvent(seq, self.operation.id, step, target, kind, attempt, at, data or _data(kind, step), "w")
            )
        return self

    def done(self, target: str, *steps: str) -> LogBook:
        for step in steps:
            self.step(step, target, "started", "succeeded")
        return self

    def undone(self, target: str, *steps: str) -> LogBook:
        for step in steps:
            self.step(step, target, "undo-started", "undone")
        return self

    def fold(self, *, expires: datetime | None = None) -> OperationStatus:
        return fold_operation(self.operation, self.operation_events, self.step_events, expires=expires)


def _data(kind: StepEventKind, step: str) -> Mapping[str, Any]:
    if kind in (StepEventKind.FAILED, StepEventKind.UNKNOWN, StepEventKind.UNDO_FAILED):
        return {"error": {"error": "Rejected", "message": f"{step} {kind}", "hint": "look"}}
    return {"outputs": {"of": step}} if kind is StepEventKind.SUCCEEDED else {}
