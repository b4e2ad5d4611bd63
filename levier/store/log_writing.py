"""Writing the operation log: the parts that every writer shares, worker or person."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from levier.domain.errors import InvalidRequest, NotFound
from levier.domain.operation import (
    JsonMap,
    OperationEvent,
    OperationEventKind,
    OperationState,
    StepEvent,
    check_step_event,
    check_step_event_in,
    fold_step,
)
from levier.store.log_reading import operation_state, step_events
from levier.store.log_rows import operation_event_row
from levier.store.tables import OperationRow, PlannedStepRow


def locked(session: Session, operation_id: str) -> OperationRow:
    """The operation's row, locked: nobody else writes its log before this transaction ends. Raises NotFound."""
    row = session.get(OperationRow, operation_id, with_for_update=True)
    if row is None:
        raise NotFound(f"there is no operation {operation_id}", hint="levier operation list shows them")
    return row


def take_seq(session: Session, operation_id: str) -> int:
    """The number of the operation's next event; its row is locked."""
    take = (
        update(OperationRow)
        .where(OperationRow.id == operation_id)
        .values(last_seq=OperationRow.last_seq + 1)
        .returning(OperationRow.last_seq)
    )
    return session.execute(take).scalar_one()


def add_event(
    session: Session,
    operation_id: str,
    kind: OperationEventKind,
    at: datetime,
    *,
    state: OperationState | None = None,
    detail: JsonMap,
    worker: str = "",
    key: str = "",
) -> None:
    """The event is the operation's next one."""
    seq = take_seq(session, operation_id)
    session.add(operation_event_row(OperationEvent(seq, operation_id, kind, at, state, detail, worker), key=key))


def check_step(session: Session, event: StepEvent) -> None:
    """The event is one of the plan and may follow in this state of the operation and after the step's last event.

    Raises InvalidRequest, Conflict.
    """
    planned = select(PlannedStepRow.position).where(
        PlannedStepRow.operation == event.operation,
        PlannedStepRow.step == event.step,
        PlannedStepRow.target == event.target,
    )
    if session.scalar(planned) is None:
        raise InvalidRequest(
            f"operation {event.operation} has no step {event.step} on {event.target} in its plan",
            hint="an operation does only what was planned and shown: start another one",
        )
    state = operation_state(session, event.operation)
    check_step_event_in(state, event.kind, operation=event.operation)
    earlier = step_events(session, event.operation, target=event.target, step=event.step)
    check_step_event(fold_step(earlier).phase, event.kind, step=event.step, target=event.target)
