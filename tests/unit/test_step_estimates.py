"""How long steps will take: what was measured counts, what is known of the like otherwise."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from levier.domain.install_plan import SMOKE_TEST
from levier.domain.operation import OperationStatus, StepState, StepStatus
from levier.domain.step_estimates import OTHERS_S, REPEATED_S, StepEstimates, learnt, stage_s
from tests.unit.operation_logs import START, LogBook

NOTHING = StepEstimates({}, {})


def took(
    step: str, seconds: float, outputs: dict[str, Any] | None, state: StepState = StepState.SUCCEEDED
) -> StepStatus:
    """A step that ran for so long."""
    finished = START + timedelta(seconds=seconds)
    return StepStatus(step, "n1", state, started=START, finished=finished, outputs=outputs)


def earlier(*steps: StepStatus) -> OperationStatus:
    return replace(LogBook().fold(), steps=steps)


@pytest.mark.parametrize(
    ("step", "seconds"),
    [
        ("configure-keystone", 0.3),
        ("start-nova-api", 4),
        ("smoke-server", 60),
        ("smoke-check", 20),
        ("rabbitmq-no-guest", OTHERS_S),
    ],
)
def test_what_was_never_measured_takes_as_long_as_its_like(step: str, seconds: float) -> None:
    assert NOTHING.of(step, done=False) == seconds
    # A smoke test is made each time.
    assert NOTHING.of(step, done=True) == (seconds if step in SMOKE_TEST else REPEATED_S)


def test_the_median_of_what_was_measured_counts_and_not_one_slow_day() -> None:
    days = [earlier(took("start-glance", s, {"changed": ["glance"]})) for s in (5.0, 300.0, 6.0)]
    assert learnt(days).of("start-glance", done=False) == 6.0
    assert learnt(days).of("start-glance", done=True) == REPEATED_S


def test_a_repeat_that_changed_nothing_says_nothing_about_the_work() -> None:
    found = learnt([earlier(took("start-glance", 0.2, {"changed": []}), took("unpack-bundle", 12.0, None))])
    assert found == StepEstimates({"unpack-bundle": 12.0}, {"start-glance": 0.2})
    assert found.of("start-glance", done=True) == 0.2
    assert found.of("start-glance", done=False) == NOTHING.of("start-glance", done=False)


def test_what_failed_or_never_ended_is_not_learnt_from() -> None:
    endless = replace(took("start-glance", 1.0, {}), finished=None)
    assert learnt([earlier(took("start-glance", 900.0, None, StepState.FAILED), endless)]) == NOTHING


@pytest.mark.parametrize(("parallel", "seconds"), [(1, 26.0), (2, 13.0), (3, 10.0), (16, 10.0)])
def test_hosts_share_the_time_but_none_is_faster_than_its_own_steps(parallel: int, seconds: float) -> None:
    steps = [("a", "n1"), ("b", "n1"), ("a", "n2"), ("b", "n2"), ("a", "n3")]
    estimates = StepEstimates({"a": 6.0, "b": 4.0}, {})
    assert stage_s(steps, estimates, done_on=(), parallel=parallel) == seconds


def test_on_hosts_in_service_the_work_is_found_done() -> None:
    estimates = StepEstimates({"a": 60.0}, {"a": 0.5})
    assert stage_s([("a", "n1"), ("a", "n2")], estimates, done_on=["n1", "n2"], parallel=1) == 1.0
    assert stage_s([("a", "n1"), ("a", "n2")], estimates, done_on=["n1"], parallel=1) == 60.5
    assert stage_s([], estimates, done_on=(), parallel=1) == 0.0
