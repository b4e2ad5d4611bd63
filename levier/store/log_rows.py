"""Rows of the operation log to and from what the domain knows."""

from __future__ import annotations

from collections.abc import Sequence

from levier.domain.operation import (
    Lease,
    Operation,
    OperationEvent,
    OperationEventKind,
    OperationState,
    PlannedStep,
    StepEvent,
    StepEventKind,
)
from levier.store.tables import LeaseRow, OperationEventRow, OperationRow, PlannedStepRow, StepEventRow


def operation_row(operation: Operation) -> OperationRow:
    """The row of an operation nobody has begun."""
    return OperationRow(
        id=operation.id,
        key=operation.key or None,
        kind=operation.kind,
        targets=list(operation.targets),
        parameters=dict(operation.parameters),
        requested_by=operation.requested_by,
        code_version=operation.code_version,
        created=operation.created,
        generation=0,
        last_seq=0,
        worker="",
        expires=None,
    )


def plan_rows(operation: Operation) -> list[PlannedStepRow]:
    """The rows of an operation's plan, in its order."""
    return [
        PlannedStepRow(operation=operation.id, position=i, step=p.step, target=p.target, wave=p.wave)
        for i, p in enumerate(operation.plan)
    ]


def operation_of(row: OperationRow, plan: Sequence[PlannedStepRow]) -> Operation:
    """The operation of a row and (the wanted part of) its plan."""
    return Operation(
        id=row.id,
        kind=row.kind,
        targets=tuple(row.targets),
        plan=tuple(PlannedStep(p.step, p.target, p.wave) for p in plan),
        created=row.created,
        code_version=row.code_version,
        parameters=row.parameters,
        requested_by=row.requested_by,
        key=row.key or "",
    )


def operation_event_row(event: OperationEvent, *, key: str = "") -> OperationEventRow:
    """The row of an event, known by `key` if there is one."""
    return OperationEventRow(
        operation=event.operation,
        seq=event.seq,
        kind=event.kind.value,
        state=event.state.value if event.state else None,
        at=event.at,
        detail=dict(event.detail),
        worker=event.worker,
        key=key or None,
    )


def operation_event_of(row: OperationEventRow) -> OperationEvent:
    """The event of a row."""
    return OperationEvent(
        seq=row.seq,
        operation=row.operation,
        kind=OperationEventKind(row.kind),
        at=row.at,
        state=OperationState(row.state) if row.state else None,
        detail=row.detail,
        worker=row.worker,
    )


def step_event_row(event: StepEvent, *, key: str = "") -> StepEventRow:
    """The row of an event, known by `key` if there is one."""
    return StepEventRow(
        operation=event.operation,
        seq=event.seq,
        step=event.step,
        target=event.target,
        kind=event.kind.value,
        attempt=event.attempt,
        at=event.at,
        data=dict(event.data),
        worker=event.worker,
        key=key or None,
    )


def step_event_of(row: StepEventRow) -> StepEvent:
    """The event of a row."""
    return StepEvent(
        seq=row.seq,
        operation=row.operation,
        step=row.step,
        target=row.target,
        kind=StepEventKind(row.kind),
        attempt=row.attempt,
        at=row.at,
        data=row.data,
        worker=row.worker,
    )


def lease_of(row: LeaseRow) -> Lease:
    """The lease of a row that has a holder."""
    if row.operation is None or row.acquired is None or row.expires is None:
        raise ValueError(f"nobody holds {row.node}")
    return Lease(
        node=row.node,
        operation=row.operation,
        generation=row.generation,
        worker=row.worker,
        acquired=row.acquired,
        expires=row.expires,
    )
