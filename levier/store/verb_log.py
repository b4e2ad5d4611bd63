"""Decisions of persons in the operation log. They need no fence: nobody works on an operation that is stuck."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

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
from levier.store.base import reading, writing
from levier.store.fencing import hold
from levier.store.log_reading import operation_events, operation_state, step_events
from levier.store.log_rows import step_event_row
from levier.store.log_writing import add_event, check_step, locked, take_seq
from levier.store.tables import LeaseRow, OperationEventRow, OperationRow

if TYPE_CHECKING:
    from levier.saga.verbs import VerbLog


class SqlVerbLog:
    """levier.saga.verbs.VerbLog on SQLite or PostgreSQL; the contracts are stated there."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def find(self, key: str) -> str | None:
        """See VerbLog.find."""
        with reading(self._engine) as session:
            return session.scalar(select(OperationRow.id).where(OperationRow.key == key))

    def history(self, operation_id: str) -> tuple[tuple[OperationEvent, ...], tuple[StepEvent, ...]]:
        """See VerbLog.history."""
        with reading(self._engine) as session:
            return tuple(operation_events(session, operation_id)), tuple(step_events(session, operation_id))

    def abandoned_on(self, node: str) -> tuple[Fence, ...]:
        """See VerbLog.abandoned_on."""
        query = (
            select(OperationEventRow, OperationRow)
            .join(OperationRow, OperationRow.id == OperationEventRow.operation)
            .where(OperationEventRow.kind == OperationEventKind.ORDERED.value)
            .order_by(OperationEventRow.at.desc())
        )
        with reading(self._engine) as session:
            orders = [(operation, event.detail) for event, operation in session.execute(query)]
        cleared = {o.id for o, d in orders if d.get("verb") == OrderVerb.CLEAR_FAULT and d.get("node") == node}
        abandoned = [o for o, d in orders if d.get("verb") == OrderVerb.ABANDON and node in d.get("nodes", ())]
        return tuple(Fence(o.id, o.generation, "nobody") for o in abandoned if o.id not in cleared)

    def note(self, fence: Fence, kind: OperationEventKind, *, detail: JsonMap, at: datetime) -> None:
        """See VerbLog.note."""
        with writing(self._engine) as session:
            hold(session, fence)
            add_event(session, fence.operation, kind, at, detail=detail, worker=fence.worker)

    def order(
        self, operation_id: str, *, detail: JsonMap, at: datetime, states: Collection[OperationState] | None = None
    ) -> None:
        """See VerbLog.order."""
        with writing(self._engine) as session:
            locked(session, operation_id)
            if states is not None:
                _require(session, operation_id, states)
            if not _is_repeat(operation_events(session, operation_id), detail):
                add_event(session, operation_id, OperationEventKind.ORDERED, at, detail=detail)

    def skip(self, operation_id: str, *, step: str, target: str, data: JsonMap, at: datetime) -> None:
        """See VerbLog.skip."""
        with writing(self._engine) as session:
            locked(session, operation_id)
            kind = StepEventKind.SKIPPED
            seq = take_seq(session, operation_id)
            event = StepEvent(seq, operation_id, step, target, kind, attempt=1, at=at, data=data)
            check_step(session, event)
            session.add(step_event_row(event))

    def abandon(self, operation_id: str, *, detail: JsonMap, at: datetime) -> None:
        """See VerbLog.abandon."""
        with writing(self._engine) as session:
            row = locked(session, operation_id)
            _require(session, operation_id, STUCK)
            check_operation_state(
                operation_state(session, operation_id), OperationState.CANCELLED, operation=operation_id
            )
            row.generation += 1
            session.flush()
            add_event(session, operation_id, OperationEventKind.ORDERED, at, detail=detail)
            why = f"abandoned by {detail['who']}: {detail['reason']}"
            words = {"who": detail["who"], "reason": why, "abandoned": True}
            state = OperationState.CANCELLED
            add_event(session, operation_id, OperationEventKind.STATE, at, state=state, detail=words)
            session.execute(
                update(LeaseRow)
                .where(LeaseRow.operation == operation_id)
                .values(operation=None, worker="", acquired=None, expires=None)
            )


if TYPE_CHECKING:
    _conforms: type[VerbLog] = SqlVerbLog


def _require(session: Session, operation_id: str, states: Collection[OperationState]) -> None:
    state = operation_state(session, operation_id)
    if state not in states:
        raise Conflict(
            f"operation {operation_id} became {state} meanwhile",
            hint=f"look again: levier operation show {operation_id}",
        )


def _is_repeat(events: list[OperationEvent], detail: JsonMap) -> bool:
    """The last decision was the same one, and no worker has followed it yet."""
    for event in reversed(events):
        if event.worker:
            return False
        if event.kind is OperationEventKind.ORDERED:
            return {**event.detail, "reason": ""} == {**detail, "reason": ""}
    return False
