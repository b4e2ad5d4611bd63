"""The transition tables, compared exhaustively with what the design says in words."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest

from levier.domain.errors import Conflict
from levier.domain.operation import (
    FINAL,
    OPERATION_TRANSITIONS,
    SETTLED,
    STEP_TRANSITIONS,
    OperationState,
    StepEvent,
    StepEventKind,
    StepPhase,
    check_operation_state,
    check_step_event_in,
    fold_step,
)

AT = datetime(2026, 1, 1, tzinfo=UTC)
K = StepEventKind

# One way into each phase.
WAYS: dict[StepPhase, list[StepEventKind]] = {
    StepPhase.PENDING: [],
    StepPhase.BLOCKED: [K.FAILED],
    StepPhase.RUNNING: [K.STARTED],
    StepPhase.SUCCEEDED: [K.STARTED, K.SUCCEEDED],
    StepPhase.FAILED: [K.STARTED, K.FAILED],
    StepPhase.UNKNOWN: [K.STARTED, K.UNKNOWN],
    StepPhase.SKIPPED: [K.STARTED, K.FAILED, K.SKIPPED],
    StepPhase.UNDOING: [K.STARTED, K.SUCCEEDED, K.UNDO_STARTED],
    StepPhase.UNDONE: [K.STARTED, K.SUCCEEDED, K.UNDO_STARTED, K.UNDONE],
    StepPhase.UNDO_FAILED: [K.STARTED, K.SUCCEEDED, K.UNDO_STARTED, K.UNDO_FAILED],
    StepPhase.ABANDONED: [K.STARTED, K.SUCCEEDED, K.UNDO_STARTED, K.UNDO_FAILED, K.SKIPPED],
}

# Said once more, in another way than in the code: phase → events → phase.
LEADS_TO: dict[tuple[StepPhase, StepEventKind], StepPhase] = {
    **{(p, K.STARTED): StepPhase.RUNNING for p in ("pending", "blocked", "running", "failed", "unknown", "undone")},
    **{(p, K.FAILED): StepPhase.BLOCKED for p in ("pending", "blocked", "undone")},
    ("running", K.FAILED): StepPhase.FAILED,
    ("running", K.UNKNOWN): StepPhase.UNKNOWN,
    ("running", K.SUCCEEDED): StepPhase.SUCCEEDED,
    **{
        (p, K.UNDO_STARTED): StepPhase.UNDOING
        for p in ("running", "succeeded", "failed", "unknown", "skipped", "undoing", "undo-failed")
    },
    ("undoing", K.UNDONE): StepPhase.UNDONE,
    ("undoing", K.UNDO_FAILED): StepPhase.UNDO_FAILED,
    **{(p, K.SKIPPED): StepPhase.SKIPPED for p in ("pending", "blocked", "running", "failed", "unknown", "undone")},
    **{(p, K.SKIPPED): StepPhase.ABANDONED for p in ("undoing", "undo-failed")},
}


def events(*kinds: StepEventKind) -> list[StepEvent]:
    return [
        StepEvent(seq=i, operation="op", step="s", target="t", kind=kind, attempt=1, at=AT)
        for i, kind in enumerate(kinds, start=1)
    ]


@pytest.mark.parametrize("phase", StepPhase)
def test_each_phase_can_be_reached(phase: StepPhase) -> None:
    assert fold_step(events(*WAYS[phase])).phase is phase


@pytest.mark.parametrize(("phase", "kind"), list(itertools.product(StepPhase, StepEventKind)))
def test_each_event_in_each_phase(phase: StepPhase, kind: StepEventKind) -> None:
    log = events(*WAYS[phase], kind)
    expected = LEADS_TO.get((phase, kind))
    assert (kind in STEP_TRANSITIONS[phase]) is (expected is not None)
    if expected is None:
        with pytest.raises(Conflict, match="cannot follow"):
            fold_step(log)
    else:
        assert fold_step(log).phase is expected


O = OperationState  # noqa: E741 - the table below is read as a whole
OPERATION_ARROWS = {
    (O.PLANNED, O.AWAITING_APPROVAL),
    (O.PLANNED, O.RUNNING),
    (O.PLANNED, O.CANCELLED),
    (O.AWAITING_APPROVAL, O.RUNNING),
    (O.AWAITING_APPROVAL, O.CANCELLED),
    (O.RUNNING, O.SUCCEEDED),
    (O.RUNNING, O.UNWINDING),
    (O.RUNNING, O.HELD),
    (O.RUNNING, O.NEEDS_OPERATOR),
    (O.PLANNED, O.NEEDS_OPERATOR),
    (O.SUCCEEDED, O.UNWINDING),
    (O.UNWINDING, O.ROLLED_BACK),
    (O.UNWINDING, O.CANCELLED),
    (O.UNWINDING, O.HELD),
    (O.UNWINDING, O.NEEDS_OPERATOR),
    (O.HELD, O.RUNNING),
    (O.HELD, O.UNWINDING),
    (O.HELD, O.CANCELLED),
    (O.NEEDS_OPERATOR, O.RUNNING),
    (O.NEEDS_OPERATOR, O.UNWINDING),
    (O.NEEDS_OPERATOR, O.CANCELLED),
}


@pytest.mark.parametrize(("old", "new"), list(itertools.product(OperationState, OperationState)))
def test_each_transition_of_an_operation(old: OperationState, new: OperationState) -> None:
    assert (new in OPERATION_TRANSITIONS[old]) is ((old, new) in OPERATION_ARROWS)
    if (old, new) in OPERATION_ARROWS:
        check_operation_state(old, new, operation="op")
    else:
        with pytest.raises(Conflict, match="cannot become"):
            check_operation_state(old, new, operation="op")


def test_final_states_are_those_without_a_way_out() -> None:
    assert {s for s in OperationState if not OPERATION_TRANSITIONS[s]} == FINAL
    assert FINAL < SETTLED


@pytest.mark.parametrize(("state", "kind"), list(itertools.product(OperationState, StepEventKind)))
def test_which_step_events_an_operation_takes(state: OperationState, kind: StepEventKind) -> None:
    if kind is K.SKIPPED:
        legal = state in (O.HELD, O.NEEDS_OPERATOR)
    elif kind is K.STARTED:
        legal = state is O.RUNNING
    else:
        legal = state in (O.RUNNING, O.UNWINDING)
    if legal:
        check_step_event_in(state, kind, operation="op")
    else:
        with pytest.raises(Conflict):
            check_step_event_in(state, kind, operation="op")
