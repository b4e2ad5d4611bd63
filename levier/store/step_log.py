"""The saga's log in SQL. Every method is one transaction; every write of a worker is conditional on its fence."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from levier.domain.errors import Conflict
from levier.domain.operation import (
    FINAL,
    SETTLED,
    Fence,
    JsonMap,
    Lease,
    Operation,
    OperationEventKind,
    OperationState,
    OperationStatus,
    StepEvent,
    StepEventKind,
    check_operation_state,
    open_cancel,
)
from levier.store.base import exclusive, reading, writing
from levier.store.fencing import held_by, hold, next_seq, refuse_other_holder
from levier.store.log_reading import (
    event_with_key,
    load_status,
    load_statuses,
    operation_events,
    operation_state,
)
from levier.store.log_rows import (
    lease_of,
    operation_of,
    operation_row,
    plan_rows,
    step_event_of,
    step_event_row,
)
from levier.store.log_writing import add_event, check_step, locked
from levier.store.tables import LeaseRow, OperationEventRow, OperationRow, PlannedStepRow, StepEventRow

if TYPE_CHECKING:
    from levier.saga.log import StepLog


class SqlStepLog:
    """levier.saga.log.StepLog on SQLite or PostgreSQL; the contracts are stated there."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # --- operations -------------------------------------------------------------------------------------------------

    def create(self, operation: Operation) -> Operation:
        """See StepLog.create."""
        with writing(self._engine) as session:
            if operation.key:
                exclusive(session, f"operation {operation.key}")
                earlier = session.scalar(select(OperationRow).where(OperationRow.key == operation.key))
                if earlier is not None:
                    return operation_of(earlier, _plan(session, earlier.id))
            row = session.get(OperationRow, operation.id)
            if row is not None and operation_of(row, _plan(session, row.id)) == operation:
                return operation
            if row is not None:
                raise Conflict(f"there already is an operation {operation.id}", hint="repeat: ids are random")
            session.add(operation_row(operation))
            session.flush()
            session.add_all(plan_rows(operation))
            planned = {"requested_by": operation.requested_by, "code_version": operation.code_version}
            state = OperationState.PLANNED
            add_event(session, operation.id, OperationEventKind.STATE, operation.created, state=state, detail=planned)
        return operation

    def status(self, operation_id: str, *, target: str | None = None) -> OperationStatus:
        """See StepLog.status."""
        with reading(self._engine) as session:
            return load_status(session, operation_id, target=target)

    def statuses(
        self, *, states: Collection[OperationState] | None = None, limit: int | None = None
    ) -> tuple[OperationStatus, ...]:
        """See StepLog.statuses."""
        with reading(self._engine) as session:
            return load_statuses(session, states=states, limit=limit)

    def take_over(
        self,
        operation_id: str,
        *,
        worker: str,
        run: str,
        code_version: str,
        at: datetime,
        expires: datetime,
        key: str = "",
    ) -> Fence:
        """See StepLog.take_over."""
        with writing(self._engine) as session:
            row = locked(session, operation_id)
            earlier = event_with_key(session, OperationEventRow, operation_id, key)
            if earlier is not None:
                return Fence(operation_id, int(earlier.detail["generation"]), earlier.worker)
            state = operation_state(session, operation_id)
            if state in FINAL:
                raise Conflict(f"operation {operation_id} is {state}: it is over", hint="start another one")
            row.generation += 1
            row.worker, row.expires = worker, expires
            session.flush()
            _pass_leases_on(session, row)
            detail = {"generation": row.generation, "run": run, "code_version": code_version}
            kind = OperationEventKind.TAKEN_OVER
            add_event(session, operation_id, kind, at, detail=detail, worker=worker, key=key)
            return Fence(operation=operation_id, generation=row.generation, worker=worker)

    def is_current(self, fence: Fence) -> bool:
        """See StepLog.is_current."""
        with reading(self._engine) as session:
            query = select(OperationRow.generation).where(OperationRow.id == fence.operation)
            return session.scalar(query) == fence.generation

    def set_state(self, fence: Fence, state: OperationState, *, detail: JsonMap, at: datetime) -> None:
        """See StepLog.set_state."""
        with writing(self._engine) as session:
            hold(session, fence)
            old = operation_state(session, fence.operation)
            if old is state:
                return
            check_operation_state(old, state, operation=fence.operation)
            kind = OperationEventKind.STATE
            add_event(session, fence.operation, kind, at, state=state, detail=detail, worker=fence.worker)

    def request_cancel(self, operation_id: str, *, who: str, reason: str, at: datetime) -> None:
        """See StepLog.request_cancel."""
        with writing(self._engine) as session:
            locked(session, operation_id)
            state = operation_state(session, operation_id)
            if state in SETTLED:
                raise Conflict(
                    f"operation {operation_id} is {state}: there is nothing to cancel",
                    hint="" if state in FINAL else f"to undo it: levier rollback {operation_id}",
                )
            if open_cancel(operation_events(session, operation_id)) is None:
                detail = {"who": who, "reason": reason}
                add_event(session, operation_id, OperationEventKind.CANCEL_REQUESTED, at, detail=detail)

    def cancel_requested(self, operation_id: str) -> JsonMap | None:
        """See StepLog.cancel_requested."""
        with reading(self._engine) as session:
            return open_cancel(operation_events(session, operation_id))

    # --- steps ------------------------------------------------------------------------------------------------------

    def append(
        self,
        fence: Fence,
        *,
        step: str,
        target: str,
        kind: StepEventKind,
        attempt: int,
        at: datetime,
        data: JsonMap,
        needs_lease: bool = True,
        key: str = "",
    ) -> StepEvent:
        """See StepLog.append."""
        with writing(self._engine) as session:
            hold(session, fence)
            earlier = event_with_key(session, StepEventRow, fence.operation, key)
            if earlier is not None:
                return step_event_of(earlier)
            event = StepEvent(
                seq=next_seq(session, fence),
                operation=fence.operation,
                step=step,
                target=target,
                kind=kind,
                attempt=attempt,
                at=at,
                data=data,
                worker=fence.worker,
            )
            check_step(session, event)
            if needs_lease:
                refuse_other_holder(session, fence, target)
            session.add(step_event_row(event, key=key))
        return event

    # --- leases -----------------------------------------------------------------------------------------------------

    def acquire_lease(self, fence: Fence, node: str, *, at: datetime, expires: datetime) -> Lease:
        """See StepLog.acquire_lease."""
        with writing(self._engine) as session:
            hold(session, fence)
            exclusive(session, f"lease {node}")
            row = session.get(LeaseRow, node, with_for_update=True)
            if row is None:
                row = LeaseRow(node=node, operation=None, generation=0, fence=0, worker="", acquired=None, expires=None)
                session.add(row)
            if row.operation not in (None, fence.operation):
                raise held_by(session, row)
            if row.operation is None:
                row.operation, row.generation, row.acquired = fence.operation, row.generation + 1, at
            row.fence, row.worker, row.expires = fence.generation, fence.worker, expires
            return lease_of(row)

    def release_lease(self, fence: Fence, node: str) -> None:
        """See StepLog.release_lease."""
        with writing(self._engine) as session:
            hold(session, fence)
            session.execute(
                update(LeaseRow)
                .where(LeaseRow.node == node, LeaseRow.operation == fence.operation)
                .values(operation=None, worker="", acquired=None, expires=None)
            )

    def renew(self, fence: Fence, *, at: datetime, expires: datetime) -> None:
        """See StepLog.renew."""
        with writing(self._engine) as session:
            hold(session, fence).expires = expires
            session.execute(update(LeaseRow).where(LeaseRow.operation == fence.operation).values(expires=expires))

    def leases(self) -> tuple[Lease, ...]:
        """See StepLog.leases."""
        with reading(self._engine) as session:
            held = select(LeaseRow).where(LeaseRow.operation.is_not(None)).order_by(LeaseRow.node)
            return tuple(lease_of(row) for row in session.scalars(held))


if TYPE_CHECKING:
    _conforms: type[StepLog] = SqlStepLog


def _plan(session: Session, operation_id: str) -> list[PlannedStepRow]:
    query = select(PlannedStepRow).where(PlannedStepRow.operation == operation_id).order_by(PlannedStepRow.position)
    return list(session.scalars(query))


def _pass_leases_on(session: Session, row: OperationRow) -> None:
    """The operation's leases are its new worker's, each under a new generation."""
    session.execute(
        update(LeaseRow)
        .where(LeaseRow.operation == row.id)
        .values(generation=LeaseRow.generation + 1, fence=row.generation, worker=row.worker, expires=row.expires)
    )
