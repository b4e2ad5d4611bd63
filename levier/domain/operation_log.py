"""What an operation's append-only log consists of, and which entry may follow which.

One sequence of numbers per operation runs through both kinds of entries, operation events and step events, so the log
is totally ordered. Everything shown about an operation is a fold over it (levier.domain.operation).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias

from levier.domain.errors import Conflict

JsonMap: TypeAlias = Mapping[str, Any]
"""Something json.dumps takes. Never a secret: it is stored in clear text and shown."""


class OperationState(StrEnum):
    """Where an operation is."""

    PLANNED = "planned"
    AWAITING_APPROVAL = "awaiting_approval"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    UNWINDING = "unwinding"
    ROLLED_BACK = "rolled_back"
    HELD = "held"
    NEEDS_OPERATOR = "needs_operator"
    CANCELLED = "cancelled"


SETTLED = frozenset(
    {
        OperationState.SUCCEEDED,
        OperationState.ROLLED_BACK,
        OperationState.HELD,
        OperationState.NEEDS_OPERATOR,
        OperationState.CANCELLED,
    }
)
"""States in which no process works on the operation."""

STUCK = frozenset({OperationState.HELD, OperationState.NEEDS_OPERATOR})
"""States that only a person's decision leaves."""

FINAL = frozenset({OperationState.ROLLED_BACK, OperationState.CANCELLED})
"""States that are never left."""

OPERATION_TRANSITIONS: Mapping[OperationState, frozenset[OperationState]] = {
    OperationState.PLANNED: frozenset(
        {
            OperationState.AWAITING_APPROVAL,
            OperationState.RUNNING,
            OperationState.NEEDS_OPERATOR,
            OperationState.CANCELLED,
        }
    ),
    OperationState.AWAITING_APPROVAL: frozenset({OperationState.RUNNING, OperationState.CANCELLED}),
    OperationState.RUNNING: frozenset(
        {
            OperationState.SUCCEEDED,
            OperationState.UNWINDING,
            OperationState.HELD,
            OperationState.NEEDS_OPERATOR,
        }
    ),
    OperationState.SUCCEEDED: frozenset({OperationState.UNWINDING}),
    OperationState.UNWINDING: frozenset(
        {
            OperationState.ROLLED_BACK,
            OperationState.HELD,
            OperationState.NEEDS_OPERATOR,
            OperationState.CANCELLED,
        }
    ),
    # From a stuck state to `cancelled` only by an explicit, audited "abandon": what stands, stays and stays listed.
    OperationState.HELD: frozenset({OperationState.RUNNING, OperationState.UNWINDING, OperationState.CANCELLED}),
    OperationState.NEEDS_OPERATOR: frozenset(
        {OperationState.RUNNING, OperationState.UNWINDING, OperationState.CANCELLED}
    ),
    OperationState.ROLLED_BACK: frozenset(),
    OperationState.CANCELLED: frozenset(),
}


class OperationEventKind(StrEnum):
    """What an operation event says."""

    STATE = "state"
    """The operation entered `state`; `detail` may carry a `reason`."""
    TAKEN_OVER = "taken-over"
    """A worker began or took over; `detail` has its `generation`, `run` and `code_version`."""
    CANCEL_REQUESTED = "cancel-requested"
    """Somebody (`detail`: `who`, `reason`) wants it stopped at the next safe point and undone."""
    ORDERED = "ordered"
    """Somebody decided something else about it; `detail`: `verb`, `who`, `reason`. It changes no status by itself."""
    OBSERVED = "observed"
    """What was seen of a `target` after its undo; `detail` has it, and `problems` where something was not seen."""


@dataclass(frozen=True, slots=True)
class OperationEvent:
    """One entry about the operation as a whole."""

    seq: int
    operation: str
    kind: OperationEventKind
    at: datetime
    state: OperationState | None = None
    detail: JsonMap = field(default_factory=dict)
    worker: str = ""


class StepEventKind(StrEnum):
    """What happened to a step on a target."""

    STARTED = "started"
    """Committed before the side effect. `data`: `before` on the first attempt."""
    SUCCEEDED = "succeeded"
    """`data`: `outputs`."""
    FAILED = "failed"
    """It did not happen, or not completely. `data`: `error`."""
    UNKNOWN = "unknown"
    """It may have happened: the state is read again before anything is repeated. `data`: `error`."""
    UNDO_STARTED = "undo-started"
    UNDONE = "undone"
    """The earlier state holds again. `data`: `outputs` of the undo."""
    UNDO_FAILED = "undo-failed"
    """`data`: `error`."""
    SKIPPED = "skipped"
    """An operator took the step (or its undo) out of the plan. `data`: `who`, `reason`."""


UNDO_KINDS = frozenset({StepEventKind.UNDO_STARTED, StepEventKind.UNDONE, StepEventKind.UNDO_FAILED})


@dataclass(frozen=True, slots=True)
class StepEvent:
    """One entry about one step on one target."""

    seq: int
    operation: str
    step: str
    target: str
    kind: StepEventKind
    attempt: int
    """Counts from 1; undo attempts are counted on their own."""
    at: datetime
    data: JsonMap = field(default_factory=dict)
    worker: str = ""


class StepPhase(StrEnum):
    """Where a step on a target is, as far as the next event is concerned."""

    PENDING = "pending"
    BLOCKED = "blocked"
    """Failed before it acted: the state before could not be observed. Nothing to undo."""
    RUNNING = "running"
    """Started, outcome open: its process may have died."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNKNOWN = "unknown"
    SKIPPED = "skipped"
    UNDOING = "undoing"
    UNDONE = "undone"
    UNDO_FAILED = "undo-failed"
    ABANDONED = "abandoned"
    """An operator gave up undoing it: it stands."""


_K = StepEventKind
STEP_TRANSITIONS: Mapping[StepPhase, frozenset[StepEventKind]] = {
    StepPhase.PENDING: frozenset({_K.STARTED, _K.FAILED, _K.SKIPPED}),
    StepPhase.BLOCKED: frozenset({_K.STARTED, _K.FAILED, _K.SKIPPED}),
    # `started` after `started`: the process died in between and another one goes on.
    StepPhase.RUNNING: frozenset({_K.STARTED, _K.SUCCEEDED, _K.FAILED, _K.UNKNOWN, _K.UNDO_STARTED, _K.SKIPPED}),
    StepPhase.SUCCEEDED: frozenset({_K.UNDO_STARTED}),
    StepPhase.FAILED: frozenset({_K.STARTED, _K.UNDO_STARTED, _K.SKIPPED}),
    StepPhase.UNKNOWN: frozenset({_K.STARTED, _K.UNDO_STARTED, _K.SKIPPED}),
    StepPhase.SKIPPED: frozenset({_K.UNDO_STARTED}),
    # Skipped while it is open: its process died, and the operation was given to an operator.
    StepPhase.UNDOING: frozenset({_K.UNDO_STARTED, _K.UNDONE, _K.UNDO_FAILED, _K.SKIPPED}),
    # Forward again after an undo: a held operation that is resumed. A new round, with a new state before.
    StepPhase.UNDONE: frozenset({_K.STARTED, _K.FAILED, _K.SKIPPED}),
    StepPhase.UNDO_FAILED: frozenset({_K.UNDO_STARTED, _K.SKIPPED}),
    StepPhase.ABANDONED: frozenset(),
}


def check_step_event(phase: StepPhase, kind: StepEventKind, *, step: str, target: str) -> None:
    """`kind` may follow in `phase`; otherwise Conflict is raised."""
    if kind not in STEP_TRANSITIONS[phase]:
        raise Conflict(
            f"step {step} on {target} is {phase}: `{kind}` cannot follow",
            hint="read the operation again: another worker may have moved it on",
        )


def check_step_event_in(state: OperationState, kind: StepEventKind, *, operation: str) -> None:
    """An event of this kind may be written while the operation is in `state`; otherwise Conflict is raised.

    Forward work begins only while running, undo only while running (one target of several) or unwinding, a skip only
    while it needs an operator or is held; what already began may be concluded until the operation is settled.
    """
    running = {OperationState.RUNNING}
    working = {OperationState.RUNNING, OperationState.UNWINDING}
    allowed = {_K.STARTED: running, _K.SKIPPED: STUCK}.get(kind, working)
    if state not in allowed:
        raise Conflict(
            f"operation {operation} is {state}: no step can be `{kind}` now",
            hint=f"see what it is doing: levier operation show {operation}",
        )


def check_operation_state(old: OperationState, new: OperationState, *, operation: str) -> None:
    """An operation may go from `old` to `new`; otherwise Conflict is raised."""
    if new not in OPERATION_TRANSITIONS[old]:
        raise Conflict(
            f"operation {operation} is {old} and cannot become {new}",
            hint=f"see what it is doing: levier operation show {operation}",
        )
