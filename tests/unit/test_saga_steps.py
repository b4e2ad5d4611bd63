"""Declaring steps, looking them up, and how patiently they are repeated."""

from __future__ import annotations

import pytest

from levier.domain.errors import (
    AuthFailed,
    Busy,
    InvalidRequest,
    NotFound,
    Rejected,
    StoreUnavailable,
    UndoFailed,
    Unreachable,
)
from levier.domain.operation import JsonMap
from levier.domain.retry import NEVER, RetryPolicy, treatment_of
from levier.saga.engine import compatible
from levier.saga.step import Checkpoint, Step, StepRegistry, Undo, should_retry, step
from levier.saga.unwinding import irreversible_steps, unwind_plan
from tests.unit.operation_logs import LogBook


def _back(_ctx: object, _checkpoint: Checkpoint) -> JsonMap:
    return {}


def _do(_ctx: object) -> JsonMap:
    return {}


@step(name="power-on", title="Power on", undo=_back, retry={Rejected: RetryPolicy(attempts=3, delay_s=1)})
def power_on(_ctx: object) -> JsonMap:
    return {"power": "on"}


def test_a_decorated_function_is_a_step() -> None:
    assert isinstance(power_on, Step)
    assert (power_on.name, power_on.title) == ("power-on", "Power on")
    assert power_on.do(object()) == {"power": "on"}
    assert power_on.before(object()) == {}


def test_without_an_undo_declaration_there_is_no_step() -> None:
    with pytest.raises(TypeError, match="undo"):
        step(name="x", title="X")  # type: ignore[call-overload]


@pytest.mark.parametrize("undo", [None, "no effect", 0])
def test_an_undo_that_is_none_is_refused(undo: object) -> None:
    with pytest.raises(TypeError, match="undo"):
        step(name="x", title="X", undo=undo)(_do)  # type: ignore[call-overload]


@pytest.mark.parametrize("name", ["", "Power", "power on"])
def test_names_are_kebab_case(name: str) -> None:
    with pytest.raises(TypeError, match="kebab"):
        Step(name=name, title="", do=_do, undo=Undo.NO_EFFECT)


def test_names_are_unique_in_a_registry() -> None:
    registry = StepRegistry()
    registry.add(power_on, power_on)
    assert list(registry) == [power_on]
    assert len(registry) == 1
    with pytest.raises(InvalidRequest, match="power-on"):
        registry.add(Step(name="power-on", title="", do=_do, undo=Undo.NO_EFFECT))
    with pytest.raises(NotFound, match="write-image"):
        registry.get("write-image")
    assert len(StepRegistry()) == 0


def test_retry_goes_by_the_table_and_the_step_may_override_it() -> None:
    plain = Step(name="plain", title="", do=_do, undo=Undo.NO_EFFECT)
    table = treatment_of(Unreachable("")).retry
    delays = [should_retry(plain, Unreachable("gone"), n) for n in range(1, table.attempts + 1)]
    assert delays == [table.delay_before_s(n + 1) for n in range(1, table.attempts)] + [None]
    assert should_retry(plain, AuthFailed("no"), 1) is None
    assert should_retry(plain, ValueError("a defect"), 1) is None
    assert should_retry(plain, Rejected("no"), 1) is None
    assert should_retry(power_on, Rejected("no"), 1) == 1
    assert should_retry(power_on, Rejected("no"), 3) is None
    assert should_retry(power_on, Busy("later"), 1) == 1, "the override covers the subclass too"


def test_retrying_an_undo_goes_by_the_error_of_the_undo() -> None:
    plain = Step(name="plain", title="", do=_do, undo=_back)
    assert should_retry(plain, UndoFailed("x", undo_error=Unreachable("gone")), 1) is not None
    assert should_retry(plain, UndoFailed("x", undo_error=Rejected("no")), 1) is None


def test_a_database_that_is_away_costs_no_attempt() -> None:
    """It is waited for inside the step, see test_store_outages.py; what comes out of that is final."""
    assert treatment_of(StoreUnavailable("away for hours")).retry.attempts == 1


@pytest.mark.parametrize(
    ("begun", "now", "expected"),
    [("1.2.3", "1.2.9", True), ("1.2.3", "1.3.0", False), ("1.2.3", "2.2.3", False), ("0.1.0", "0.1.0.dev3", True)],
)
def test_compatible_versions(begun: str, now: str, expected: bool) -> None:
    assert compatible(begun, now) is expected


def test_unwinding_goes_back_in_the_order_of_the_log_and_takes_the_open_step_along() -> None:
    log = LogBook(targets=("n1", "n2")).state("running").done("n1", "a").done("n2", "a").done("n1", "b")
    log.step("c", "n1", "started").step("b", "n2", "started", "unknown")
    assert unwind_plan(log.fold()) == (("b", "n2"), ("c", "n1"), ("b", "n1"), ("a", "n2"), ("a", "n1"))
    assert unwind_plan(log.fold(), "n2") == (("b", "n2"), ("a", "n2"))
    log.undone("n2", "b")
    assert unwind_plan(log.fold(), "n2") == (("a", "n2"),)


def test_what_never_acted_is_not_undone() -> None:
    log = LogBook().state("running").step("a", "n1", "failed")
    assert unwind_plan(log.fold()) == ()


def test_what_an_operator_gave_up_on_is_not_undone_but_stands() -> None:
    log = LogBook().state("running").done("n1", "a", "b").step("b", "n1", "undo-started", "undo-failed")
    log.state("needs_operator").step("b", "n1", "skipped")
    assert unwind_plan(log.fold()) == (("a", "n1"),)
    assert [s.step for s in log.fold().stands] == ["a", "b"]


def test_irreversible_steps_are_named_before_anything_is_undone() -> None:
    registry = StepRegistry()
    registry.add(
        Step(name="a", title="", do=_do, undo=_back),
        Step(name="b", title="", do=_do, undo=Undo.IRREVERSIBLE),
        Step(name="c", title="", do=_do, undo=Undo.NO_EFFECT),
    )
    log = LogBook().state("running").done("n1", "a")
    assert irreversible_steps(log.fold(), registry) == ()
    log.step("b", "n1", "started", "failed")
    assert [s.step for s in irreversible_steps(log.fold(), registry, "n1")] == ["b"]
    assert irreversible_steps(log.fold(), registry, "n2") == ()


def test_a_steps_own_policy_is_about_its_do_and_not_about_its_undo() -> None:
    cautious = Step(name="cautious", title="", do=_do, undo=_back, retry={Unreachable: NEVER})
    assert should_retry(cautious, Unreachable("gone"), 1) is None
    assert should_retry(cautious, UndoFailed("x", undo_error=Unreachable("gone")), 1) is not None
