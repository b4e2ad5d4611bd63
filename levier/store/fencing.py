"""The condition on every write of a worker: its fence is current, for as long as the transaction lasts."""

from __future__ import annotations

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from levier.domain.errors import Conflict, LevierError, NotFound
from levier.domain.operation import Fence
from levier.store.tables import LeaseRow, OperationRow


def hold(session: Session, fence: Fence) -> OperationRow:
    """The operation's row, locked: nobody can take over before this transaction ends. Raises LeaseLost, NotFound."""
    query = select(OperationRow).where(_is_current(fence)).with_for_update()
    row = session.scalars(query).one_or_none()
    if row is None:
        raise _why(session, fence)
    return row


def next_seq(session: Session, fence: Fence) -> int:
    """The number of the operation's next event; its row is locked as by `hold`. Raises LeaseLost, NotFound."""
    take = (
        update(OperationRow)
        .where(_is_current(fence))
        .values(last_seq=OperationRow.last_seq + 1)
        .returning(OperationRow.last_seq)
    )
    seq = session.execute(take).scalar_one_or_none()
    if seq is None:
        raise _why(session, fence)
    return seq


def refuse_other_holder(session: Session, fence: Fence, node: str) -> None:
    """No other operation holds `node`; otherwise Conflict is raised, naming it."""
    row = session.get(LeaseRow, node)
    if row is not None and row.operation not in (None, fence.operation):
        raise held_by(session, row)


def held_by(session: Session, lease: LeaseRow) -> Conflict:
    """The error for a node that another operation holds, with the way to watch that one."""
    holder = session.get(OperationRow, lease.operation)
    kind = holder.kind if holder is not None else "an operation"
    since = f" since {lease.acquired:%Y-%m-%d %H:%M:%S} UTC" if lease.acquired else ""
    return Conflict(
        f"node {lease.node} is held by operation {lease.operation} ({kind}, worker {lease.worker}){since}",
        hint=f"watch it: levier operation show {lease.operation}; end it: levier operation cancel {lease.operation}",
    )


def _is_current(fence: Fence) -> ColumnElement[bool]:
    return (OperationRow.id == fence.operation) & (OperationRow.generation == fence.generation)


def _why(session: Session, fence: Fence) -> LevierError:
    if session.get(OperationRow, fence.operation) is None:
        return NotFound(f"there is no operation {fence.operation}", hint="levier operation list shows them")
    return fence.lost()
