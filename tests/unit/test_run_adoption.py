"""What a runner does with flow runs it finds: the whole table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import StateType

from flows.adoption import MAX_ATTEMPTS, UNLABELLED_AGE, RunnerView, RunView, Verdict, verdict

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def run(state: StateType, *, worker: str | None = "me", age: timedelta = timedelta(0), attempts: int = 1) -> RunView:
    return RunView(id=uuid4(), state=state, since=NOW - age, worker=worker, attempts=attempts)


def judged(each: RunView, *, live: bool = False, killed: bool = False) -> Verdict:
    ids: frozenset[UUID] = frozenset({each.id})
    runner = RunnerView("me", live=ids if live else frozenset(), killed=ids if killed else frozenset())
    return verdict(each, runner, NOW)


@pytest.mark.parametrize("state", list(StateType))
def test_a_live_run_is_left_alone(state: StateType) -> None:
    assert judged(run(state), live=True) is Verdict.LEAVE


@pytest.mark.parametrize("state", list(StateType))
def test_another_workers_run_is_left_alone(state: StateType) -> None:
    assert judged(run(state, worker="other", age=timedelta(days=1)), killed=True) is Verdict.LEAVE


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (StateType.RUNNING, Verdict.RETRY),
        (StateType.PENDING, Verdict.RETRY),
        (StateType.CANCELLING, Verdict.CANCEL),
        (StateType.CRASHED, Verdict.LEAVE),
        (StateType.SCHEDULED, Verdict.LEAVE),
        (StateType.PAUSED, Verdict.LEAVE),
        (StateType.COMPLETED, Verdict.LEAVE),
        (StateType.FAILED, Verdict.LEAVE),
        (StateType.CANCELLED, Verdict.LEAVE),
    ],
)
def test_ones_own_run_without_a_process(state: StateType, expected: Verdict) -> None:
    assert judged(run(state)) is expected


def test_a_run_whose_process_was_killed_under_this_runner_goes_on() -> None:
    assert judged(run(StateType.CRASHED), killed=True) is Verdict.RETRY


@pytest.mark.parametrize("state", [StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED])
def test_a_run_that_ended_otherwise_meanwhile_stays_ended(state: StateType) -> None:
    assert judged(run(state), killed=True) is Verdict.LEAVE


@pytest.mark.parametrize(("age", "expected"), [(0.9, Verdict.LEAVE), (1.1, Verdict.RETRY)])
def test_an_unlabelled_run_is_taken_up_only_after_a_while(age: float, expected: Verdict) -> None:
    assert judged(run(StateType.PENDING, worker=None, age=UNLABELLED_AGE * age)) is expected


@pytest.mark.parametrize(("attempts", "expected"), [(MAX_ATTEMPTS - 1, Verdict.RETRY), (MAX_ATTEMPTS, Verdict.GIVE_UP)])
def test_a_run_that_kills_its_process_each_time_is_given_up(attempts: int, expected: Verdict) -> None:
    assert judged(run(StateType.RUNNING, attempts=attempts)) is expected
