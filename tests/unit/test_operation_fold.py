"""The status of steps, targets and operations as a fold over their log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levier.domain.operation import (
    STEP_TRANSITIONS,
    OperationState,
    StepEvent,
    StepEventKind,
    StepState,
    TargetOutcome,
    UndoState,
    fold_step,
    settle,
)
from levier.saga.unwinding import unwind_plan
from tests.unit.operation_logs import LogBook

K = StepEventKind
AT = datetime(2026, 1, 1, tzinfo=UTC)


@st.composite
def legal_logs(draw: st.DrawFn) -> list[StepEvent]:
    """Random walks through the transition table."""
    log: list[StepEvent] = []
    for seq in range(1, draw(st.integers(0, 25)) + 1):
        ways = sorted(STEP_TRANSITIONS[fold_step(log).phase])
        if not ways:
            break
        kind = draw(st.sampled_from(ways))
        error = {"error": {"error": "Rejected", "message": f"at {seq}", "hint": ""}}
        data = {
            K.STARTED: {"before": {"seen": seq}},
            K.SUCCEEDED: {"outputs": {"made": seq}},
            K.FAILED: error,
            K.UNKNOWN: error,
            K.UNDO_FAILED: error,
        }.get(kind, {})
        log.append(StepEvent(seq, "op", "s", "t", kind, seq, AT + timedelta(seconds=seq), data))
    return log


def this_round(log: list[StepEvent]) -> list[StepEvent]:
    """What came after the last `undone` that was followed by going forward again."""
    ends = [i for i, e in enumerate(log) if e.kind is K.UNDONE and i < len(log) - 1]
    return log[ends[-1] + 1 :] if ends else log


@given(legal_logs())
def test_what_holds_for_every_legal_log(log: list[StepEvent]) -> None:
    status = fold_step(log)
    now = this_round(log)
    kinds = [e.kind for e in now]
    first_start = next((e for e in now if e.kind is K.STARTED), None)
    assert status.acted is (first_start is not None)
    assert status.stands is (first_start is not None and kinds[-1] is not K.UNDONE)
    assert status.before == (dict(first_start.data["before"]) if first_start else None)
    if status.done:
        assert kinds[-1] in (K.SUCCEEDED, K.SKIPPED)
    if status.outputs is not None:
        assert status.outputs == next(e.data["outputs"] for e in reversed(now) if e.kind is K.SUCCEEDED)
    if status.phase.value in ("failed", "unknown", "blocked"):
        assert status.error is not None
        assert status.error.message == f"at {now[-1].seq}"
    if status.undo is UndoState.FAILED:
        assert status.undo_error is not None
        assert status.undo_error.message == f"at {now[-1].seq}"
    assert status.last_seq == (log[-1].seq if log else 0)


def test_a_retry_keeps_the_first_state_before_and_forgets_the_error_on_success() -> None:
    log = LogBook(steps=("a",)).state("running")
    log.step("a", "n1", "started", before={"power": "off"})
    log.step("a", "n1", "unknown")
    log.step("a", "n1", "started", attempt=2, before={"power": "on"})
    log.step("a", "n1", "succeeded", attempt=2)
    (status,) = log.fold().steps
    assert status.before == {"power": "off"}
    assert (status.attempts, status.state, status.error) == (2, StepState.SUCCEEDED, None)
    assert status.duration_s == 3.0


def test_an_undone_step_keeps_why_it_was_undone() -> None:
    log = LogBook().state("running").done("n1", "a").step("b", "n1", "started", "failed").undone("n1", "b", "a")
    status = log.fold()
    failed = status.step("b", "n1")
    assert failed.undo is UndoState.UNDONE
    assert failed.error is not None
    assert failed.error.message == "b failed"
    assert status.targets["n1"].outcome is TargetOutcome.UNDONE
    assert status.targets["n1"].error == "b: b failed"
    assert status.stands == ()


def test_a_new_round_forgets_the_old_one() -> None:
    log = LogBook(steps=("a",)).state("running").step("a", "n1", "started", "failed").undone("n1", "a")
    log.state("held").state("running").step("a", "n1", "started", before={"power": "on"})
    (status,) = log.fold().steps
    assert (status.undo, status.error, status.attempts) == (UndoState.NONE, None, 1)
    assert status.before == {"power": "on"}


@pytest.mark.parametrize(
    ("write", "outcome"),
    [
        (lambda log: log, TargetOutcome.PENDING),
        (lambda log: log.step("a", "n1", "started"), TargetOutcome.RUNNING),
        (lambda log: log.done("n1", "a", "b"), TargetOutcome.RUNNING),
        (lambda log: log.done("n1", "a", "b", "c"), TargetOutcome.READY),
        (lambda log: log.done("n1", "a").step("b", "n1", "started", "failed"), TargetOutcome.FAILED),
        (lambda log: log.step("a", "n1", "failed"), TargetOutcome.FAILED),
        (lambda log: log.done("n1", "a", "b").step("b", "n1", "undo-started"), TargetOutcome.UNWINDING),
        (lambda log: log.done("n1", "a", "b").undone("n1", "b"), TargetOutcome.UNWINDING),
        (lambda log: log.done("n1", "a", "b").undone("n1", "b", "a"), TargetOutcome.UNDONE),
        (
            lambda log: log.done("n1", "a", "b").step("b", "n1", "undo-started", "undo-failed"),
            TargetOutcome.NEEDS_OPERATOR,
        ),
    ],
)
def test_outcome_of_a_target(write: object, outcome: TargetOutcome) -> None:
    log = LogBook().state("running")
    assert callable(write)
    write(log)
    assert log.fold().targets["n1"].outcome is outcome


def test_an_undone_target_may_go_forward_only_after_the_operation_was_resumed() -> None:
    log = LogBook().state("running").done("n1", "a").undone("n1", "a")
    assert log.fold().targets["n1"].outcome is TargetOutcome.UNDONE
    log.taken_over()
    assert log.fold().targets["n1"].outcome is TargetOutcome.UNDONE, "taking over is no decision to try again"
    log.state("held").state("running")
    assert log.fold().targets["n1"].outcome is TargetOutcome.PENDING


THREE = ("n1", "n2", "n3")


def test_settle_only_when_all_are_ready() -> None:
    log = LogBook(targets=THREE).state("running")
    for node in THREE:
        log.done(node, "a", "b", "c")
    assert settle(log.fold()).state is OperationState.SUCCEEDED


def test_settle_counts_out_what_is_mixed() -> None:
    log = LogBook(targets=THREE).state("running").done("n1", "a", "b", "c").done("n3", "a", "b", "c")
    log.done("n2", "a").step("b", "n2", "started", "failed").undone("n2", "b", "a")
    end = settle(log.fold())
    assert end.state is OperationState.HELD
    assert end.reason == "2 of 3 targets ready; n2 undone: b: b failed (nothing stands)"


def test_settle_undone_is_rolled_back_and_cancelled_when_that_was_asked_for() -> None:
    log = LogBook().state("running").done("n1", "a").step("b", "n1", "started", "failed").undone("n1", "b", "a")
    assert settle(log.fold()).state is OperationState.ROLLED_BACK
    assert settle(log.fold()).reason == "n1: b: b failed"
    log.cancel()
    assert settle(log.fold()).state is OperationState.CANCELLED
    assert "ann" in settle(log.fold()).reason


def test_settle_keeps_both_errors_of_a_failed_undo() -> None:
    log = LogBook().state("running").done("n1", "a").step("b", "n1", "started", "failed")
    log.step("b", "n1", "undo-started", "undo-failed")
    end = settle(log.fold())
    assert end.state is OperationState.NEEDS_OPERATOR
    assert "b undo-failed" in end.reason
    assert "b: b failed" in end.reason


def test_settle_holds_what_stands_without_an_undo() -> None:
    log = LogBook().state("running").done("n1", "a").step("b", "n1", "started", "failed")
    end = settle(log.fold())
    assert end.state is OperationState.HELD
    assert "stands: a, b" in end.reason


def test_a_request_to_cancel_is_open_until_the_operation_is_settled() -> None:
    log = LogBook().cancel()
    assert log.fold().cancel_requested == {"who": "ann", "reason": "wrong rack"}
    log.state("running").state("unwinding")
    assert log.fold().cancel_requested is not None
    log.state("cancelled")
    assert log.fold().cancel_requested is None


def test_takeovers_count_from_the_last_progress() -> None:
    log = LogBook().taken_over().state("running").taken_over().taken_over()
    assert log.fold().takeovers == 2
    log.done("n1", "a")
    assert log.fold().takeovers == 0
    log.taken_over("run-7")
    assert (log.fold().takeovers, log.fold().run) == (1, "run-7")


def test_a_step_that_was_refused_before_it_acted_is_undone_in_the_order_in_which_it_acted() -> None:
    """Its failure is older than everything that was begun anew after the operation was resumed."""
    log = LogBook().state("running").done("n1", "a").step("b", "n1", "failed").undone("n1", "a").state("held")
    log.state("running").done("n1", "a", "b")
    assert [s.step for s in log.fold().stands] == ["a", "b"]
    assert unwind_plan(log.fold()) == (("b", "n1"), ("a", "n1"))
