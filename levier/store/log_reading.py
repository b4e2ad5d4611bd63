"""Reading the operation log: events, and the folds over them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import TypeVar

from sqlalchemy import Select, func, inspect, select
from sqlalchemy.orm import Session

from levier.domain.errors import NotFound
from levier.domain.operation import (
    OperationEvent,
    OperationEventKind,
    OperationState,
    OperationStatus,
    StepEvent,
    fold_operation,
)
from levier.store.log_rows import operation_event_of, operation_of, step_event_of
from levier.store.tables import OperationEventRow, OperationRow, PlannedStepRow, StepEventRow

_Row = TypeVar("_Row", OperationEventRow, PlannedStepRow, StepEventRow)

_EventRow = TypeVar("_EventRow", OperationEventRow, StepEventRow)

_AT_ONCE = 500
"""Operations per query: SQLite takes a limited number of parameters."""


def operation_events(session: Session, operation_id: str) -> list[OperationEvent]:
    """The operation's own events. Raises NotFound."""
    query = select(OperationEventRow).where(OperationEventRow.operation == operation_id).order_by(OperationEventRow.seq)
    events = [operation_event_of(row) for row in session.scalars(query)]
    if not events:
        raise NotFound(f"there is no operation {operation_id}", hint="levier operation list shows them")
    return events


def operation_state(session: Session, operation_id: str) -> OperationState:
    """The state the operation entered last. Raises NotFound."""
    query = (
        select(OperationEventRow.state)
        .where(
            OperationEventRow.operation == operation_id,
            OperationEventRow.kind == OperationEventKind.STATE.value,
        )
        .order_by(OperationEventRow.seq.desc())
        .limit(1)
    )
    state = session.scalar(query)
    if state is None:
        raise NotFound(f"there is no operation {operation_id}", hint="levier operation list shows them")
    return OperationState(state)


def step_events(
    session: Session, operation_id: str, *, target: str | None = None, step: str | None = None
) -> list[StepEvent]:
    """The events of the operation's steps (of one target, of one step), in the order of the log."""
    query = select(StepEventRow).where(StepEventRow.operation == operation_id).order_by(StepEventRow.seq)
    if target is not None:
        query = query.where(StepEventRow.target == target)
    if step is not None:
        query = query.where(StepEventRow.step == step)
    return [step_event_of(row) for row in session.scalars(query)]


def event_with_key(session: Session, table: type[_EventRow], operation_id: str, key: str) -> _EventRow | None:
    """The event that an earlier call with this key wrote, if it came through. No key: none."""
    if not key:
        return None
    return session.scalar(select(table).where(table.operation == operation_id, table.key == key))


def load_status(session: Session, operation_id: str, *, target: str | None = None) -> OperationStatus:
    """The fold of the operation's log, or of one target's part of it. Raises NotFound."""
    row = session.get(OperationRow, operation_id)
    if row is None:
        raise NotFound(f"there is no operation {operation_id}", hint="levier operation list shows them")
    plan = select(PlannedStepRow).where(PlannedStepRow.operation == operation_id).order_by(PlannedStepRow.position)
    if target is not None:
        plan = plan.where(PlannedStepRow.target == target)
    operation = operation_of(row, session.scalars(plan).all())
    steps = step_events(session, operation_id, target=target)
    return fold_operation(operation, operation_events(session, operation_id), steps, expires=row.expires)


def load_statuses(
    session: Session, *, states: Collection[OperationState] | None, limit: int | None
) -> tuple[OperationStatus, ...]:
    """The folds of the operations in one of `states`, newest first, at most `limit`."""
    newest = select(OperationRow).order_by(OperationRow.created.desc(), OperationRow.id).limit(limit)
    if states is not None:
        newest = newest.where(OperationRow.id.in_(_in_states(states)))
    rows = session.scalars(newest).all()
    found: list[OperationStatus] = []
    for at in range(0, len(rows), _AT_ONCE):
        found.extend(_fold_each(session, rows[at : at + _AT_ONCE]))
    return tuple(found)


def _in_states(states: Collection[OperationState]) -> Select[str]:
    """The ids of the operations whose last state is one of `states`; looked up every few seconds: nothing is folded."""
    of_state = OperationEventRow.kind == OperationEventKind.STATE.value
    last = (
        select(OperationEventRow.operation, func.max(OperationEventRow.seq).label("seq"))
        .where(of_state)
        .group_by(OperationEventRow.operation)
        .subquery()
    )
    same = (OperationEventRow.operation == last.c.operation) & (OperationEventRow.seq == last.c.seq)
    wanted = [state.value for state in states]
    return select(OperationEventRow.operation).join(last, same).where(OperationEventRow.state.in_(wanted))


def _fold_each(session: Session, rows: Sequence[OperationRow]) -> list[OperationStatus]:
    """The folds of `rows`, in a fixed number of queries."""
    events = _grouped(session, OperationEventRow, [row.id for row in rows])
    plans = _grouped(session, PlannedStepRow, [row.id for row in rows])
    steps = _grouped(session, StepEventRow, [row.id for row in rows])
    return [
        fold_operation(
            operation_of(row, plans[row.id]),
            [operation_event_of(e) for e in events[row.id]],
            [step_event_of(e) for e in steps[row.id]],
            expires=row.expires,
        )
        for row in rows
    ]


def _grouped(session: Session, table: type[_Row], ids: Sequence[str]) -> dict[str, list[_Row]]:
    """The rows of each operation, in the order of their key (sequence or position)."""
    rows: dict[str, list[_Row]] = defaultdict(list)
    order = inspect(table).primary_key
    for row in session.scalars(select(table).where(table.operation.in_(ids)).order_by(*order)):
        rows[row.operation].append(row)
    return rows
