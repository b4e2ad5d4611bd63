"""Operations: everything about their log and their status, which is a fold over the log.

The words are in levier.domain.operation_log (events, states, what may follow what) and levier.domain.operation_status
(plan, statuses); both are offered here, so that others need to know this module only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise

from levier.domain.errors import Conflict
from levier.domain.operation_log import (
    FINAL,
    OPERATION_TRANSITIONS,
    SETTLED,
    STEP_TRANSITIONS,
    STUCK,
    UNDO_KINDS,
    JsonMap,
    OperationEvent,
    OperationEventKind,
    OperationState,
    StepEvent,
    StepEventKind,
    StepPhase,
    check_operation_state,
    check_step_event,
    check_step_event_in,
)
from levier.domain.operation_status import (
    ErrorRecord,
    Fence,
    Lease,
    Operation,
    OperationStatus,
    PlannedStep,
    StepState,
    StepStatus,
    TargetOutcome,
    TargetStatus,
    UndoState,
)

__all__ = [
    "FINAL",
    "OPERATION_TRANSITIONS",
    "SETTLED",
    "STEP_TRANSITIONS",
    "STUCK",
    "UNDO_KINDS",
    "ErrorRecord",
    "Fence",
    "JsonMap",
    "Lease",
    "Operation",
    "OperationEvent",
    "OperationEventKind",
    "OperationState",
    "OperationStatus",
    "PlannedStep",
    "Settlement",
    "StepEvent",
    "StepEventKind",
    "StepPhase",
    "StepState",
    "StepStatus",
    "TargetOutcome",
    "TargetStatus",
    "UndoState",
    "check_operation_state",
    "check_step_event",
    "check_step_event_in",
    "fold_operation",
    "fold_step",
    "open_cancel",
    "settle",
]


def fold_step(events: Iterable[StepEvent], *, step: str = "", target: str = "", wave: int = 0) -> StepStatus:
    """The status of one step on one target after `events` (in the order of the log; all of that step and target).

    Raises Conflict when an event could not follow the one before: such a log was not written by Levier.
    """
    status: StepStatus | None = None
    for event in events:
        if status is None:
            status = StepStatus(step=event.step, target=event.target, wave=wave)
        check_step_event(status.phase, event.kind, step=event.step, target=event.target)
        status = _after(status, event)
    return status or StepStatus(step=step, target=target, wave=wave)


def _after(status: StepStatus, event: StepEvent) -> StepStatus:
    status = replace(status, last_seq=event.seq)
    if event.kind in UNDO_KINDS:
        return _after_undo(status, event)
    if event.kind is StepEventKind.SKIPPED and status.undo in (UndoState.FAILED, UndoState.RUNNING):
        return replace(status, undo=UndoState.ABANDONED, skipped=event.data)
    if status.undo is UndoState.UNDONE:
        status = StepStatus(step=status.step, target=status.target, wave=status.wave, last_seq=event.seq)
    if event.kind is StepEventKind.SKIPPED:
        began = status.first_seq or event.seq
        taken_as_done = replace(status, state=StepState.SKIPPED, error=None, skipped=event.data)
        return replace(taken_as_done, finished=event.at, first_seq=began)
    if event.kind is StepEventKind.STARTED:
        return _after_start(status, event)
    status = replace(
        status,
        attempts=event.attempt,
        finished=event.at,
        started=status.started or event.at,
        first_seq=status.first_seq or event.seq,
    )
    if event.kind is StepEventKind.SUCCEEDED:
        return replace(status, state=StepState.SUCCEEDED, outputs=event.data.get("outputs", {}), error=None)
    return replace(status, state=StepState(event.kind.value), error=ErrorRecord.from_data(event.data))


def _after_start(status: StepStatus, event: StepEvent) -> StepStatus:
    return replace(
        status,
        state=StepState.RUNNING,
        acted=True,
        attempts=event.attempt,
        # The state before is the one of the first attempt: a later look would see this step's own doing.
        before=status.before if status.before is not None else event.data.get("before"),
        started=status.started or event.at,
        finished=None,
        # One that was refused before it acted has its place from when it acts: others may have been undone since.
        first_seq=status.first_seq if status.acted else event.seq,
    )


def _after_undo(status: StepStatus, event: StepEvent) -> StepStatus:
    status = replace(status, undo_attempts=event.attempt)
    if event.kind is StepEventKind.UNDO_STARTED:
        return replace(status, undo=UndoState.RUNNING)
    if event.kind is StepEventKind.UNDONE:
        return replace(status, undo=UndoState.UNDONE, undo_error=None)
    return replace(status, undo=UndoState.FAILED, undo_error=ErrorRecord.from_data(event.data))


def fold_operation(
    operation: Operation,
    operation_events: Sequence[OperationEvent],
    step_events: Sequence[StepEvent],
    *,
    expires: datetime | None = None,
) -> OperationStatus:
    """The status of `operation` after its whole log, both parts in the order of `seq`.

    `expires` is passed through: until when the last worker counts as alive, a sign of life being no event.

    Raises Conflict for a log with an illegal event.
    """
    steps = _fold_steps(operation, step_events)
    state = _state_event(operation, operation_events)
    taken = [e for e in operation_events if e.kind is OperationEventKind.TAKEN_OVER]
    progress = max(
        [state.seq] + [e.seq for e in step_events if e.kind in (StepEventKind.SUCCEEDED, StepEventKind.UNDONE)]
    )
    assert state.state is not None  # noqa: S101 - by construction of _state_event
    active = [e.state for e in operation_events if e.state is not None and e.state not in SETTLED]
    return OperationStatus(
        operation=operation,
        state=state.state,
        state_detail=state.detail,
        state_seq=state.seq,
        started=next((e.at for e in operation_events if e.state is OperationState.RUNNING), None),
        finished=state.at if state.state in SETTLED else None,
        steps=steps,
        targets=_with_observations(
            _outcomes(steps, resumed_at=state.seq if state.state is OperationState.RUNNING else 0),
            steps,
            operation_events,
        ),
        cancel_requested=open_cancel(operation_events),
        takeovers=sum(1 for e in taken if e.seq > progress),
        run=str(taken[-1].detail.get("run", "")) if taken else "",
        worker=taken[-1].worker if taken else "",
        expires=expires,
        last_seq=max([e.seq for e in operation_events] + [e.seq for e in step_events], default=0),
        worked_seq=max([e.seq for e in operation_events if e.worker] + [e.seq for e in step_events], default=0),
        active=active[-1],
    )


def _fold_steps(operation: Operation, events: Sequence[StepEvent]) -> tuple[StepStatus, ...]:
    of: dict[tuple[str, str], list[StepEvent]] = {(p.step, p.target): [] for p in operation.plan}
    for event in events:
        of[(event.step, event.target)].append(event)
    return tuple(fold_step(of[(p.step, p.target)], step=p.step, target=p.target, wave=p.wave) for p in operation.plan)


def _state_event(operation: Operation, events: Sequence[OperationEvent]) -> OperationEvent:
    states = [e for e in events if e.kind is OperationEventKind.STATE]
    if not states or states[0].state is not OperationState.PLANNED:
        raise Conflict(f"the log of operation {operation.id} does not begin with `planned`", hint="restore it")
    for old, new in pairwise(e.state for e in states):
        if old is None or new is None:
            raise Conflict(f"the log of operation {operation.id} has a state event without a state", hint="restore it")
        check_operation_state(old, new, operation=operation.id)
    return states[-1]


def open_cancel(events: Iterable[OperationEvent]) -> JsonMap | None:
    """The last request to cancel that no settled state has answered (`who`, `reason`), or None."""
    request: JsonMap | None = None
    for event in events:
        if event.kind is OperationEventKind.CANCEL_REQUESTED:
            request = event.detail
        elif event.state in SETTLED:
            request = None
    return request


def _with_observations(
    targets: Mapping[str, TargetStatus], steps: Sequence[StepStatus], events: Iterable[OperationEvent]
) -> Mapping[str, TargetStatus]:
    seen = {str(e.detail.get("target")): e for e in events if e.kind is OperationEventKind.OBSERVED}
    moved = {name: max((s.last_seq for s in steps if s.target == name), default=0) for name in targets}
    # What was seen before a step moved on says nothing about now.
    valid = {name: {**e.detail, "at": e.at.isoformat()} for name, e in seen.items() if e.seq > moved.get(name, 0)}
    return {name: replace(target, observed=valid.get(name)) for name, target in targets.items()}


def _outcomes(steps: Sequence[StepStatus], *, resumed_at: int) -> Mapping[str, TargetStatus]:
    by_target: dict[str, list[StepStatus]] = {}
    for status in steps:
        by_target.setdefault(status.target, []).append(status)
    return {
        target: TargetStatus(target, _outcome(own, resumed_at=resumed_at), _first_error(own))
        for target, own in by_target.items()
    }


def _outcome(steps: Sequence[StepStatus], *, resumed_at: int) -> TargetOutcome:
    standing = any(s.stands for s in steps)
    if any(s.undo in (UndoState.FAILED, UndoState.ABANDONED) for s in steps):
        return TargetOutcome.NEEDS_OPERATOR
    # Undone before the operation was (last) set running: it may go forward again.
    undone = any(s.undo is UndoState.UNDONE and s.last_seq > resumed_at for s in steps)
    if any(s.undo is UndoState.RUNNING for s in steps) or (undone and standing):
        return TargetOutcome.UNWINDING
    if undone:
        return TargetOutcome.UNDONE
    if all(s.done for s in steps):
        return TargetOutcome.READY
    if any(s.state in (StepState.FAILED, StepState.UNKNOWN) and s.undo is UndoState.NONE for s in steps):
        return TargetOutcome.FAILED
    return TargetOutcome.RUNNING if standing else TargetOutcome.PENDING


def _first_error(steps: Sequence[StepStatus]) -> str | None:
    failed = sorted((s for s in steps if s.error), key=lambda s: s.first_seq)
    return f"{failed[0].step}: {failed[0].error.message}" if failed and failed[0].error else None


@dataclass(frozen=True, slots=True)
class Settlement:
    """The state in which an operation ends, and why."""

    state: OperationState
    reason: str


def settle(status: OperationStatus) -> Settlement:
    """The state in which an operation ends when nobody works on it any more (docs/decisions/0061).

    `succeeded` only if every target is ready; `rolled_back` (or `cancelled`, when that was asked for) only if nothing
    stands; `needs_operator` when an undo failed; everything in between is `held`, and the reason counts it out.
    """
    outcomes = [t.outcome for t in status.targets.values()]
    if TargetOutcome.NEEDS_OPERATOR in outcomes:
        return Settlement(OperationState.NEEDS_OPERATOR, _undo_failures(status))
    if all(o is TargetOutcome.READY for o in outcomes):
        return Settlement(OperationState.SUCCEEDED, "")
    if not status.stands:
        cancel = status.cancel_requested
        if cancel is not None:
            who, why = cancel.get("who", "somebody"), cancel.get("reason", "")
            return Settlement(OperationState.CANCELLED, f"cancelled by {who}: {why}; nothing stands")
        return Settlement(OperationState.ROLLED_BACK, status.error or "undone: nothing stands")
    return Settlement(OperationState.HELD, _count_out(status))


def _undo_failures(status: OperationStatus) -> str:
    failures = [
        f"{s.step} on {s.target} cannot be undone: {_why_not_undone(s)}"
        + (f" (it was undone because: {first})" if (first := status.targets[s.target].error) else "")
        for s in status.steps
        if s.undo in (UndoState.FAILED, UndoState.ABANDONED)
    ]
    return "; ".join(failures)


def _why_not_undone(step: StepStatus) -> str:
    if step.skipped is not None:
        return f"given up by {step.skipped.get('who', 'somebody')}: {step.skipped.get('reason', '')}"
    return step.undo_error.message if step.undo_error else "given up"


def _count_out(status: OperationStatus) -> str:
    nodes = [status.targets[t] for t in status.operation.targets if t in status.targets]
    ready = sum(1 for n in nodes if n.outcome is TargetOutcome.READY)
    parts = [f"{ready} of {len(nodes)} targets ready"]
    for target in status.targets.values():
        if target.outcome is TargetOutcome.READY:
            continue
        standing = [s.step for s in status.stands if s.target == target.target]
        where = f"stands: {', '.join(standing)}" if standing else "nothing stands"
        parts.append(f"{target.target} {target.outcome}: {target.error or 'no error'} ({where})")
    return "; ".join(parts)
