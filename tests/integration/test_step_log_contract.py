"""What every step log promises: in memory (for the simulation), on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from levier.domain.errors import Conflict, InvalidRequest, LeaseLost, NotFound
from levier.domain.operation import (
    Fence,
    Operation,
    OperationState,
    OperationStatus,
    PlannedStep,
    StepEvent,
    StepEventKind,
    StepState,
)
from levier.saga.engine import Saga
from levier.saga.log import StepLog
from tests.integration.saga_faults import VERSION, begun, now

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = AT + timedelta(minutes=1)
S = OperationState
K = StepEventKind


@pytest.fixture
def saga(log: StepLog) -> Saga:
    return Saga(log, now, VERSION)


def planned(name: str = "expand-1", *, key: str = "", targets: tuple[str, ...] = ("n1",)) -> Operation:
    plan = tuple(PlannedStep(step, target) for step in ("a", "b") for target in targets)
    return Operation(name, "expand", targets, plan, AT, VERSION, parameters={"x": [1, None]}, key=key)


def taken(log: StepLog, operation: str = "expand-1", *, worker: str = "w1", key: str = "") -> Fence:
    return log.take_over(operation, worker=worker, run="run-1", code_version=VERSION, at=AT, expires=LATER, key=key)


def running(log: StepLog, operation: str = "expand-1") -> Fence:
    log.create(planned(operation))
    fence = taken(log, operation)
    log.set_state(fence, S.RUNNING, detail={}, at=AT)
    return fence


def append(log: StepLog, fence: Fence, kind: StepEventKind, *, attempt: int = 1, key: str = "") -> StepEvent:
    data = {"outputs": {"x": 1}} if kind is K.SUCCEEDED else {}
    return log.append(fence, step="a", target="n1", kind=kind, attempt=attempt, at=AT, data=data, key=key)


# --- operations ------------------------------------------------------------------------------------------------------


def test_what_was_created_is_given_back(log: StepLog) -> None:
    assert log.create(planned(key="run-1")) == planned(key="run-1")
    status = log.status("expand-1")
    assert status.operation == planned(key="run-1")
    assert (status.state, status.last_seq, status.expires, status.worker) == (S.PLANNED, 1, None, "")
    assert log.create(planned("expand-2", key="run-1")).id == "expand-1"
    with pytest.raises(Conflict, match="expand-1"):
        log.create(planned(key="run-2"))
    with pytest.raises(Conflict, match="expand-1"):
        log.create(planned(targets=("n2",)))
    log.create(planned("expand-3"))
    seq = log.status("expand-3").last_seq
    assert log.create(planned("expand-3")) == planned("expand-3"), "as after an answer that was lost"
    assert log.status("expand-3").last_seq == seq
    assert [s.id for s in log.statuses()] == ["expand-1", "expand-3"]


def test_one_targets_part_of_an_operation(log: StepLog) -> None:
    log.create(planned(targets=("n1", "n2")))
    fence = taken(log)
    log.set_state(fence, S.RUNNING, detail={}, at=AT)
    append(log, fence, K.STARTED)
    part, whole = log.status("expand-1", target="n1"), log.status("expand-1")
    assert [(s.step, s.target) for s in part.steps] == [("a", "n1"), ("b", "n1")]
    assert list(part.targets) == ["n1"]
    assert (part.state, part.run, part.last_seq) == (whole.state, whole.run, whole.last_seq)
    assert log.status("expand-1", target="").steps == ()


def test_the_newest_comes_first(log: StepLog) -> None:
    for number, age_s in enumerate((2, 0, 1, 0)):
        log.create(replace(planned(f"expand-{number}"), created=AT - timedelta(seconds=age_s)))
    assert [s.id for s in log.statuses()] == ["expand-1", "expand-3", "expand-2", "expand-0"]
    log.set_state(taken(log, "expand-2"), S.RUNNING, detail={}, at=AT)
    assert [s.id for s in log.statuses(states=[S.PLANNED], limit=2)] == ["expand-1", "expand-3"]
    assert [s.id for s in log.statuses(states=[S.RUNNING])] == ["expand-2"]
    assert log.statuses(states=[S.HELD]) == ()
    assert all(s == log.status(s.id) for s in log.statuses())


def test_what_is_not_there(log: StepLog) -> None:
    nobody = Fence("expand-9", 1, "w")
    calls: list[Callable[[], object]] = [
        lambda: log.status("expand-9"),
        lambda: log.cancel_requested("expand-9"),
        lambda: log.request_cancel("expand-9", who="ann", reason="", at=AT),
        lambda: taken(log, "expand-9"),
        lambda: log.set_state(nobody, S.RUNNING, detail={}, at=AT),
        lambda: append(log, nobody, K.STARTED),
        lambda: log.acquire_lease(nobody, "n1", at=AT, expires=LATER),
        lambda: log.release_lease(nobody, "n1"),
        lambda: log.renew(nobody, at=AT, expires=LATER),
    ]
    for call in calls:
        with pytest.raises(NotFound, match="expand-9"):
            call()
    assert not log.is_current(nobody)
    assert log.leases() == ()


def test_states_move_along_the_table_and_a_repeat_writes_nothing(log: StepLog) -> None:
    fence = running(log)
    seq = log.status("expand-1").last_seq
    log.set_state(fence, S.RUNNING, detail={"reason": "again"}, at=LATER)
    assert (log.status("expand-1").last_seq, log.status("expand-1").state_detail) == (seq, {})
    with pytest.raises(Conflict, match="cannot become cancelled"):
        log.set_state(fence, S.CANCELLED, detail={}, at=AT)
    log.set_state(fence, S.UNWINDING, detail={"reason": "why"}, at=LATER)
    status = log.status("expand-1")
    assert (status.state, status.state_detail, status.state_seq) == (S.UNWINDING, {"reason": "why"}, seq + 1)
    log.set_state(fence, S.ROLLED_BACK, detail={}, at=LATER)
    with pytest.raises(Conflict, match="rolled_back"):
        taken(log)


def test_a_cancel_is_asked_for_once_until_it_is_answered(log: StepLog) -> None:
    fence = running(log)
    log.request_cancel("expand-1", who="ann", reason="wrong rack", at=AT)
    log.request_cancel("expand-1", who="bob", reason="me too", at=LATER)
    assert log.cancel_requested("expand-1") == {"who": "ann", "reason": "wrong rack"}
    assert log.status("expand-1").last_seq == 4
    log.set_state(fence, S.HELD, detail={}, at=AT)
    assert log.cancel_requested("expand-1") is None
    with pytest.raises(Conflict, match="nothing to cancel"):
        log.request_cancel("expand-1", who="ann", reason="again", at=AT)
    log.set_state(fence, S.RUNNING, detail={}, at=AT)
    log.request_cancel("expand-1", who="bob", reason="now", at=LATER)
    assert log.cancel_requested("expand-1") == {"who": "bob", "reason": "now"}


# --- taking over -----------------------------------------------------------------------------------------------------


def test_a_new_worker_fences_the_old_one_off(log: StepLog) -> None:
    old = running(log)
    log.acquire_lease(old, "n1", at=AT, expires=LATER)
    append(log, old, K.STARTED)
    new = taken(log, worker="w2")
    assert (new.generation, new.worker) == (old.generation + 1, "w2")
    assert (log.is_current(old), log.is_current(new)) == (False, True)
    before, leases = log.status("expand-1"), log.leases()
    assert [(lease.worker, lease.generation) for lease in leases] == [("w2", 2)]
    writes: list[Callable[[], object]] = [
        lambda: append(log, old, K.SUCCEEDED),
        lambda: log.set_state(old, S.UNWINDING, detail={}, at=AT),
        lambda: log.set_state(old, S.RUNNING, detail={}, at=AT),
        lambda: log.acquire_lease(old, "n2", at=AT, expires=LATER),
        lambda: log.release_lease(old, "n1"),
        lambda: log.renew(old, at=AT, expires=LATER + timedelta(hours=1)),
    ]
    for write in writes:
        with pytest.raises(LeaseLost, match="taken over"):
            write()
    assert (log.status("expand-1"), log.leases()) == (before, leases)
    append(log, new, K.SUCCEEDED)


def test_taking_over_again_with_the_same_key_is_the_same(log: StepLog) -> None:
    log.create(planned())
    first = taken(log, key="k1")
    log.acquire_lease(first, "n1", at=AT, expires=LATER)
    before, leases = log.status("expand-1"), log.leases()
    assert taken(log, key="k1") == first
    assert (log.status("expand-1"), log.leases()) == (before, leases)
    assert taken(log, key="k2").generation == 2
    assert taken(log).generation == 3
    assert taken(log).generation == 4
    assert taken(log, key="k1") == first
    assert not log.is_current(first), "the repeat of something old brings nothing back"


# --- steps -----------------------------------------------------------------------------------------------------------


def test_events_are_numbered_in_one_sequence_and_given_back(log: StepLog) -> None:
    fence = running(log)
    started, done = append(log, fence, K.STARTED), append(log, fence, K.SUCCEEDED)
    assert (started.seq, done.seq) == (4, 5)
    assert (done.step, done.target, done.kind, done.at, done.worker) == ("a", "n1", K.SUCCEEDED, AT, "w1")
    step = log.status("expand-1").step("a", "n1")
    assert (step.state, step.outputs, step.first_seq, step.last_seq) == (StepState.SUCCEEDED, {"x": 1}, 4, 5)


def test_the_same_key_makes_no_second_event(log: StepLog) -> None:
    fence = running(log)
    first = append(log, fence, K.STARTED, key="k1")
    before = log.status("expand-1")
    assert append(log, fence, K.STARTED, key="k1") == first
    assert log.status("expand-1") == before
    assert append(log, fence, K.STARTED, attempt=2, key="k2").seq == first.seq + 1
    append(log, fence, K.SUCCEEDED, attempt=2, key="k3")
    after = log.status("expand-1")
    assert append(log, fence, K.STARTED, key="k1") == first, "though it could not follow any more"
    assert log.status("expand-1") == after
    taken(log, worker="w2")
    with pytest.raises(LeaseLost):
        append(log, fence, K.STARTED, key="k1")


def test_keys_are_each_operations_own(log: StepLog) -> None:
    one, other = running(log, "expand-1"), running(log, "expand-2")
    append(log, one, K.STARTED, key="k")
    append(log, other, K.STARTED, key="k")
    assert [len(log.status(name).stands) for name in ("expand-1", "expand-2")] == [1, 1]


def test_what_may_not_follow_is_refused(log: StepLog) -> None:
    fence = running(log)
    for kind in (K.SUCCEEDED, K.UNKNOWN, K.UNDO_STARTED, K.UNDONE, K.SKIPPED):
        with pytest.raises(Conflict):
            append(log, fence, kind)
    with pytest.raises(InvalidRequest, match="no step c on n1"):
        log.append(fence, step="c", target="n1", kind=K.STARTED, attempt=1, at=AT, data={})
    assert log.status("expand-1").last_seq == 3
    log.set_state(fence, S.HELD, detail={}, at=AT)
    with pytest.raises(Conflict, match="held"):
        append(log, fence, K.STARTED)


# --- leases ----------------------------------------------------------------------------------------------------------


def test_a_lease_is_exclusive_and_its_generation_only_grows(saga: Saga) -> None:
    first, second = begun(saga, "n1"), begun(saga, "n1", kind="inspect")
    lease = saga.acquire_lease(first, "n1")
    assert (lease.operation, lease.generation) == (first.operation, 1)
    assert saga.acquire_lease(first, "n1").generation == 1, "a repeat takes nothing anew"
    with pytest.raises(Conflict) as caught:
        saga.acquire_lease(second, "n1")
    assert first.operation in caught.value.message
    assert f"levier operation show {first.operation}" in caught.value.hint
    saga.release_lease(second, "n1")
    assert [held.operation for held in saga.leases()] == [first.operation], "only the holder can release"
    saga.release_lease(first, "n1")
    saga.release_lease(first, "n1")
    assert saga.leases() == ()
    assert saga.acquire_lease(second, "n1").generation == 2


def test_no_event_on_a_node_that_another_operation_holds(saga: Saga) -> None:
    first, second = begun(saga, "n1"), begun(saga, "n1")
    saga.acquire_lease(first, "n1")
    log = saga._log
    event = {"step": "a", "target": "n1", "kind": StepEventKind.STARTED, "attempt": 1, "data": {}}
    at = saga.status(first.operation).operation.created
    with pytest.raises(Conflict, match=first.operation):
        log.append(second, at=at, **event)  # type: ignore[arg-type]
    assert saga.status(second.operation).stands == ()
    log.append(second, at=at, needs_lease=False, **event)  # type: ignore[arg-type]
    log.append(first, at=at, **event)  # type: ignore[arg-type]
    assert [len(saga.status(f.operation).stands) for f in (first, second)] == [1, 1]


def test_renewing_extends_the_life_of_operation_and_leases(saga: Saga) -> None:
    fence = begun(saga, "n1")
    saga.acquire_lease(fence, "n1")
    lease, expires = saga.leases()[0], saga.status(fence.operation).expires
    saga.renew(fence)
    after = saga.status(fence.operation).expires
    assert expires is not None
    assert after is not None
    assert after > expires
    assert saga.leases()[0].expires == after
    assert saga.leases()[0].generation == lease.generation


def test_a_release_is_safe_to_repeat_and_the_generation_only_grows(log: StepLog) -> None:
    fence = running(log)
    for generation in (1, 2, 3):
        lease = log.acquire_lease(fence, "n1", at=AT, expires=LATER)
        assert (lease.generation, lease.acquired, lease.expires) == (generation, AT, LATER)
        assert log.acquire_lease(fence, "n1", at=LATER, expires=LATER).acquired == AT
        log.release_lease(fence, "n1")
        log.release_lease(fence, "n1")
    assert log.leases() == ()


def test_leases_are_listed_by_node(log: StepLog) -> None:
    fence = running(log)
    for node in ("n2", "n1", "n10"):
        log.acquire_lease(fence, node, at=AT, expires=LATER)
    assert [lease.node for lease in log.leases()] == ["n1", "n10", "n2"]


def test_statuses_are_values(log: StepLog) -> None:
    """What was read is not changed by what is written later."""
    fence = running(log)
    before: OperationStatus = log.status("expand-1")
    append(log, fence, K.STARTED)
    assert before.last_seq == 3
    assert before.stands == ()
