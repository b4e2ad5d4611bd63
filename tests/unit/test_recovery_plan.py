"""The plan of recovery: pure, exhaustive over what it looks at, and asking for nothing twice."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levier.domain.operation import SETTLED, OperationState, OperationStatus
from levier.saga.recovery import BEGIN_S, MAX_TAKEOVERS, RecoveryVerb, RunState, plan_recovery
from tests.unit.operation_logs import START, LogBook

NOW = START + timedelta(hours=1)
FRESH, STALE = NOW + timedelta(seconds=30), NOW - timedelta(seconds=1)
V = RecoveryVerb

PATHS = {
    OperationState.PLANNED: (),
    OperationState.AWAITING_APPROVAL: ("awaiting_approval",),
    OperationState.RUNNING: ("running",),
    OperationState.SUCCEEDED: ("running", "succeeded"),
    OperationState.UNWINDING: ("running", "unwinding"),
    OperationState.ROLLED_BACK: ("running", "unwinding", "rolled_back"),
    OperationState.HELD: ("running", "held"),
    OperationState.NEEDS_OPERATOR: ("running", "needs_operator"),
    OperationState.CANCELLED: ("cancelled",),
}


def operation(
    state: OperationState, *, cancel: bool = False, fresh: bool = True, takeovers: int = 1
) -> OperationStatus:
    log = LogBook()
    for each in PATHS[state]:
        log.state(each)
    if cancel:
        log.cancel()
    for _ in range(takeovers):
        log.taken_over("run-1")
    return log.fold(expires=FRESH if fresh else STALE)


def verdict(status: OperationStatus, run: RunState, *, version: str = "1.2.3") -> RecoveryVerb:
    (action,) = plan_recovery([status], now=NOW, runs={"run-1": run}, code_version=version)
    assert action.operation == status.id
    assert action.reason
    return action.verb


ALL = list(itertools.product(OperationState, RunState, [False, True], [False, True]))


@pytest.mark.parametrize(("state", "run", "cancel", "fresh"), ALL)
def test_every_combination(state: OperationState, run: RunState, cancel: bool, fresh: bool) -> None:
    got = verdict(operation(state, cancel=cancel, fresh=fresh), run)
    alive = run is RunState.WAITING or (run is RunState.RUNNING and fresh)
    waits = state is OperationState.AWAITING_APPROVAL and not cancel and run is not RunState.RUNNING
    if state in SETTLED or alive or waits:
        assert got is V.LEAVE
    elif state is OperationState.UNWINDING or cancel or run is RunState.CANCELLED:
        assert got is V.UNWIND
    else:
        assert got is V.RESUME


def test_a_killed_run_is_taken_over_though_its_orphan_still_shows_signs_of_life() -> None:
    assert verdict(operation(OperationState.RUNNING, fresh=True), RunState.CRASHED) is V.RESUME


def test_incompatible_code_touches_nothing() -> None:
    for state, run in itertools.product(OperationState, RunState):
        got = verdict(operation(state, fresh=False), run, version="1.3.0")
        assert got in (V.REFUSE, V.LEAVE)
    action = plan_recovery([operation(OperationState.RUNNING)], now=NOW, runs={}, code_version="2.0.0")[0]
    assert action.verb is V.REFUSE
    assert "1.2.3" in action.reason


def test_the_attempt_cap_asks_a_person() -> None:
    below = operation(OperationState.RUNNING, takeovers=MAX_TAKEOVERS - 1)
    at = operation(OperationState.RUNNING, takeovers=MAX_TAKEOVERS)
    assert verdict(below, RunState.CRASHED) is V.RESUME
    assert verdict(at, RunState.CRASHED) is V.ESCALATE
    assert verdict(at, RunState.RUNNING) is V.LEAVE


def test_a_run_the_orchestrator_does_not_know_is_missing() -> None:
    (action,) = plan_recovery([operation(OperationState.RUNNING)], now=NOW, runs={}, code_version="1.2.3")
    assert (action.verb, action.run) == (V.RESUME, "run-1")
    assert "missing" in action.reason


def test_an_operation_nobody_has_begun_goes_by_the_run_that_ordered_it() -> None:
    (action,) = plan_recovery([LogBook().fold()], now=NOW, runs={"run-0": RunState.CRASHED}, code_version="1.2.3")
    assert (action.verb, action.run) == (V.RESUME, "run-0")
    (action,) = plan_recovery([LogBook().fold()], now=NOW, runs={"run-0": RunState.RUNNING}, code_version="1.2.3")
    assert action.verb is V.LEAVE


def test_a_run_whose_process_died_before_it_took_over_is_noticed() -> None:
    """Without a sign of life nobody knows more of it than since when it is said to run."""
    for status, run in ((LogBook().fold(), "run-0"), (operation(OperationState.RUNNING, fresh=False), "run-1")):
        for age_s, expected in ((BEGIN_S - 1, V.LEAVE), (BEGIN_S + 1, V.RESUME)):
            since = {run: NOW - timedelta(seconds=age_s)}
            runs = {run: RunState.RUNNING}
            (action,) = plan_recovery([status], now=NOW, runs=runs, since=since, code_version="1.2.3")
            assert action.verb is expected


@given(st.lists(st.tuples(st.sampled_from(OperationState), st.booleans(), st.booleans())))
def test_one_verdict_each_in_order_and_none_once_the_runs_are_scheduled(
    rows: list[tuple[OperationState, bool, bool]],
) -> None:
    operations = [operation(state, cancel=cancel, fresh=fresh) for state, cancel, fresh in rows]
    first = plan_recovery(operations, now=NOW, runs={}, code_version="1.2.3")
    assert len(first) == len(rows)
    again = plan_recovery(operations, now=NOW, runs={"run-1": RunState.WAITING}, code_version="1.2.3")
    assert {a.verb for a in again} <= {V.LEAVE}
