"""Decisions of persons in the log in memory: levier.saga.verbs.VerbLog beside MemoryLog."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING

from levier.domain.audit import OrderVerb
from levier.domain.errors import Conflict
from levier.domain.operation import (
    STUCK,
    Fence,
    JsonMap,
    OperationEvent,
    OperationEventKind,
    OperationState,
    StepEvent,
    StepEventKind,
    check_operation_state,
)
from tests.simulation.memory_log import MemoryLog, Record, stored

if TYPE_CHECKING:
    from levier.saga.verbs import VerbLog


class MemoryVerbLog:
    """The contracts are stated in levier.saga.verbs.VerbLog."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    def find(self, key: str) -> str | None:
        return next((name for name, r in self._log.records.items() if key and r.operation.key == key), None)

    def history(self, operation_id: str) -> tuple[tuple[OperationEvent, ...], tuple[StepEvent, ...]]:
        record = self._log.record(operation_id)
        return tuple(record.events), tuple(record.steps)

    def abandoned_on(self, node: str) -> tuple[Fence, ...]:
        orders = [(r, e) for r in self._log.records.values() for e in r.events if e.kind is OperationEventKind.ORDERED]
        orders.sort(key=lambda found: found[1].at, reverse=True)
        cleared = {
            r.operation.id
            for r, e in orders
            if e.detail.get("verb") == OrderVerb.CLEAR_FAULT and e.detail.get("node") == node
        }
        abandoned = [
            r for r, e in orders if e.detail.get("verb") == OrderVerb.ABANDON and node in e.detail.get("nodes", ())
        ]
        return tuple(Fence(r.operation.id, r.generation, "nobody") for r in abandoned if r.operation.id not in cleared)

    def note(self, fence: Fence, kind: OperationEventKind, *, detail: JsonMap, at: datetime) -> None:
        self._log.hold(fence).add(kind, at, detail=stored(detail), worker=fence.worker)

    def order(
        self, operation_id: str, *, detail: JsonMap, at: datetime, states: Collection[OperationState] | None = None
    ) -> None:
        record = self._log.record(operation_id)
        if states is not None:
            _require(record, states)
        if not _is_repeat(record, detail):
            record.add(OperationEventKind.ORDERED, at, detail=stored(detail))

    def skip(self, operation_id: str, *, step: str, target: str, data: JsonMap, at: datetime) -> None:
        record = self._log.record(operation_id)
        seq = record.last_seq + 1
        event = StepEvent(seq, operation_id, step, target, StepEventKind.SKIPPED, 1, at, stored(data))
        record.check_step(event)
        record.add_step(event)
        self._log.book.append(event)

    def abandon(self, operation_id: str, *, detail: JsonMap, at: datetime) -> None:
        record = self._log.record(operation_id)
        _require(record, STUCK)
        check_operation_state(record.state, OperationState.CANCELLED, operation=operation_id)
        record.generation += 1
        record.add(OperationEventKind.ORDERED, at, detail=stored(detail))
        why = f"abandoned by {detail['who']}: {detail['reason']}"
        words = {"who": detail["who"], "reason": why, "abandoned": True}
        record.add(OperationEventKind.STATE, at, state=OperationState.CANCELLED, detail=words)
        self._log.free(operation_id)


if TYPE_CHECKING:
    _conforms: type[VerbLog] = MemoryVerbLog


def _require(record: Record, states: Collection[OperationState]) -> None:
    if record.state not in states:
        raise Conflict(f"operation {record.operation.id} became {record.state} meanwhile", hint="look again")


def _is_repeat(record: Record, detail: JsonMap) -> bool:
    """The last decision was the same one, and no worker has followed it yet."""
    for event in reversed(record.events):
        if event.worker:
            return False
        if event.kind is OperationEventKind.ORDERED:
            return {**event.detail, "reason": ""} == {**detail, "reason": ""}
    return False
