"""The engine's promises one by one, on every step log, with steps that are plain functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from levier.domain.errors import (
    Conflict,
    IncompatibleVersion,
    InvalidRequest,
    Irreversible,
    LeaseLost,
    LevierError,
    MalformedReply,
    NotFound,
    OutcomeUnknown,
    Rejected,
    StoreUnavailable,
    UndoFailed,
    Unreachable,
)
from levier.domain.operation import (
    Fence,
    JsonMap,
    OperationState,
    PlannedStep,
    StepState,
    TargetOutcome,
    UndoState,
)
from levier.saga.engine import Saga
from levier.saga.log import StepLog
from levier.saga.step import Checkpoint, Step, Undo
from tests.integration.saga_faults import VERSION, now


@dataclass
class World:
    """What the steps did, in order."""

    done: list[str] = field(default_factory=list)
    fail: Callable[[], BaseException | None] = lambda: None
    checkpoint: Checkpoint | None = None


@pytest.fixture
def saga(log: StepLog) -> Saga:
    return Saga(log, now, VERSION)


def make(name: str, *, undo: object = None) -> Step[World]:
    def do(world: World) -> JsonMap:
        error = world.fail()
        if error is not None:
            raise error
        world.done.append(name)
        return {"by": name}

    def back(world: World, checkpoint: Checkpoint) -> JsonMap:
        world.done.append(f"undo {name}")
        world.checkpoint = checkpoint
        return {}

    return Step(name=name, title=name, do=do, undo=undo or back, before=lambda w: {"done": len(w.done)})  # type: ignore[arg-type]


A, B, C = make("a"), make("b"), make("c")


def started(saga: Saga, *steps: Step[World], targets: tuple[str, ...] = ("n1",)) -> Fence:
    plan = [PlannedStep(s.name, t) for s in steps for t in targets]
    operation = saga.create(kind="expand", targets=targets, plan=plan)
    fence = saga.begin(operation.id, worker="w1", run="run-1")
    saga.set_state(fence, OperationState.RUNNING)
    return fence


def test_create_is_idempotent_by_key(saga: Saga) -> None:
    plan = [PlannedStep("a", "n1"), PlannedStep("b", "n1", wave=1)]
    first = saga.create(kind="expand", targets=["n1"], plan=plan, parameters={"x": 1}, key="run-1")
    again = saga.create(kind="expand", targets=["n2"], plan=[PlannedStep("a", "n2")], key="run-1")
    other = saga.create(kind="expand", targets=["n1"], plan=plan, key="run-2")
    assert again == first
    assert other.id != first.id
    status = saga.status(first.id)
    assert status.operation == first
    assert (status.state, status.kind, status.run) == (OperationState.PLANNED, "expand", "")
    assert [(s.step, s.wave) for s in status.steps] == [("a", 0), ("b", 1)]


@pytest.mark.parametrize(
    "plan",
    [[], [PlannedStep("a", "n1")], [PlannedStep("a", "n1"), PlannedStep("a", "n1"), PlannedStep("a", "n2")]],
)
def test_a_plan_that_is_none_is_refused(saga: Saga, plan: list[PlannedStep]) -> None:
    with pytest.raises(InvalidRequest):
        saga.create(kind="expand", targets=["n1", "n2"], plan=plan)
    assert saga.statuses() == ()


def test_unknown_operations_are_not_found(saga: Saga) -> None:
    for call in (saga.status, saga.cancel_requested, lambda o: saga.begin(o, worker="w")):
        with pytest.raises(NotFound, match="expand-0"):
            call("expand-0")
    with pytest.raises(NotFound):
        saga.request_cancel("expand-0", "ann", "no")


def test_a_step_out_of_the_plan_is_refused(saga: Saga) -> None:
    fence, world = started(saga, A), World()
    for step, target in ((B, "n1"), (A, "n2")):
        with pytest.raises(InvalidRequest, match="plan"):
            saga.run(fence, step, world, target=target)
    assert world.done == []


def test_no_step_before_running_or_after_the_end(saga: Saga) -> None:
    operation = saga.create(kind="expand", targets=["n1"], plan=[PlannedStep("a", "n1")])
    fence, world = saga.begin(operation.id, worker="w"), World()
    with pytest.raises(Conflict, match="planned"):
        saga.run(fence, A, world, target="n1")
    saga.set_state(fence, OperationState.RUNNING)
    saga.set_state(fence, OperationState.UNWINDING)
    with pytest.raises(Conflict, match="unwinding"):
        saga.run(fence, A, world, target="n1")
    saga.settle(fence)
    with pytest.raises(Conflict, match="rolled_back"):
        saga.begin(operation.id, worker="w2")
    assert world.done == []


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (Unreachable("gone"), StepState.FAILED),
        (Rejected("no"), StepState.FAILED),
        (Conflict("held"), StepState.FAILED),
        (OutcomeUnknown("silent"), StepState.UNKNOWN),
        (MalformedReply("garbled"), StepState.UNKNOWN),
        (ZeroDivisionError("a defect"), StepState.UNKNOWN),
        (KeyboardInterrupt(), StepState.UNKNOWN),
    ],
)
def test_errors_are_recorded_by_did_it_happen_and_raised_again(
    saga: Saga, error: BaseException, state: StepState
) -> None:
    fence, world = started(saga, A), World(fail=lambda: error)
    with pytest.raises(type(error)):
        saga.run(fence, A, world, target="n1")
    status = saga.status(fence.operation).step("a", "n1")
    assert status.state is state
    assert status.error is not None
    assert status.error.error == type(error).__name__
    assert status.stands


def test_a_worker_that_learns_it_was_fenced_off_writes_nothing(saga: Saga) -> None:
    fence = started(saga, A)
    with pytest.raises(LeaseLost):
        saga.run(fence, A, World(fail=fence.lost), target="n1")
    assert saga.status(fence.operation).step("a", "n1").state is StepState.RUNNING


def test_a_database_that_was_given_up_leaves_the_outcome_open(saga: Saga) -> None:
    """Nothing is written about it: what cannot be logged is not guessed, and the next worker looks."""
    fence, world = started(saga, A), World(fail=lambda: StoreUnavailable("away"))
    with pytest.raises(StoreUnavailable):
        saga.run(fence, A, world, target="n1")
    status = saga.status(fence.operation).step("a", "n1")
    assert (status.state, status.stands, status.attempts) == (StepState.RUNNING, True, 1)
    world.fail = lambda: None
    assert saga.run(fence, A, world, target="n1") == {"by": "a"}


def test_outputs_that_are_not_json_are_a_defect_and_the_step_stays_undoable(saga: Saga) -> None:
    def do(world: World) -> JsonMap:
        world.done.append("odd")
        return {"bytes": b"x"}

    odd = Step(name="odd", title="", do=do, undo=A.undo)
    fence, world = started(saga, odd), World()
    with pytest.raises(TypeError):
        saga.run(fence, odd, world, target="n1")
    assert saga.status(fence.operation).step("odd", "n1").state is StepState.UNKNOWN
    saga.undo(fence, odd, world, target="n1")
    assert saga.status(fence.operation).stands == ()


def test_the_state_before_is_observed_once_and_handed_to_the_undo(saga: Saga) -> None:
    errors = iter([OutcomeUnknown("silent"), None])
    fence, world = started(saga, A), World(done=["earlier"], fail=lambda: next(errors))
    with pytest.raises(OutcomeUnknown):
        saga.run(fence, A, world, target="n1")
    world.done.append("changed meanwhile")
    fence = saga.begin(fence.operation, worker="w2")
    assert saga.run(fence, A, world, target="n1") == {"by": "a"}
    saga.undo(fence, A, world, target="n1")
    assert world.checkpoint == Checkpoint(before={"done": 1}, outputs={"by": "a"}, attempts=2)


def test_an_undo_of_an_open_outcome_knows_that_it_is_open(saga: Saga) -> None:
    fence, world = started(saga, A), World(fail=lambda: OutcomeUnknown("silent"))
    with pytest.raises(OutcomeUnknown):
        saga.run(fence, A, world, target="n1")
    saga.undo(fence, A, world, target="n1")
    assert world.checkpoint == Checkpoint(before={"done": 0}, outputs=None, attempts=1)


def test_when_the_state_before_cannot_be_observed_nothing_is_done_nor_undone(saga: Saga) -> None:
    def unreadable(_world: World) -> JsonMap:
        raise OutcomeUnknown("no answer")

    blind = Step(name="blind", title="", do=A.do, undo=A.undo, before=unreadable)
    fence, world = started(saga, blind), World()
    with pytest.raises(OutcomeUnknown):
        saga.run(fence, blind, world, target="n1")
    status = saga.status(fence.operation)
    assert status.step("blind", "n1").state is StepState.FAILED
    assert status.step("blind", "n1").attempts == 1
    saga.undo(fence, blind, world, target="n1")
    assert world.done == []
    assert saga.settle(fence).state is OperationState.ROLLED_BACK
    assert "no answer" in (saga.status(fence.operation).error or "")


def test_an_irreversible_step_is_not_touched_and_what_came_before_it_stands(saga: Saga) -> None:
    wipe = make("wipe", undo=Undo.IRREVERSIBLE)
    fence, world = started(saga, A, wipe), World()
    saga.run(fence, A, world, target="n1")
    saga.run(fence, wipe, world, target="n1")
    before = saga.status(fence.operation)
    with pytest.raises(Irreversible) as caught:
        saga.undo(fence, wipe, world, target="n1")
    assert "resume" in caught.value.hint
    with pytest.raises(Conflict, match="before wipe"):
        saga.undo(fence, A, world, target="n1")
    assert saga.status(fence.operation) == before
    assert world.done == ["a", "wipe"]


def test_undo_keeps_to_the_reverse_order(saga: Saga) -> None:
    fence, world = started(saga, A, B, C), World()
    for step in (A, B):
        saga.run(fence, step, world, target="n1")
    with pytest.raises(Conflict, match="before b"):
        saga.undo(fence, A, world, target="n1")
    saga.undo(fence, C, world, target="n1")
    saga.undo(fence, B, world, target="n1")
    saga.undo(fence, A, world, target="n1")
    assert world.done == ["a", "b", "undo b", "undo a"]


def test_a_target_that_is_being_undone_does_not_go_forward_and_its_siblings_do(saga: Saga) -> None:
    fence, world = started(saga, A, B, targets=("n1", "n2")), World()
    for target in ("n1", "n2"):
        saga.run(fence, A, world, target=target)
    world.fail = lambda: Rejected("disk too small")
    with pytest.raises(Rejected):
        saga.run(fence, B, world, target="n1")
    world.fail = lambda: None
    saga.undo(fence, B, world, target="n1")
    with pytest.raises(Conflict, match="n1 is unwinding"):
        saga.run(fence, B, world, target="n1")
    saga.undo(fence, A, world, target="n1")
    with pytest.raises(Conflict, match="n1 is undone"):
        saga.run(fence, A, world, target="n1")
    saga.run(fence, B, world, target="n2")
    end = saga.settle(fence)
    assert end.state is OperationState.HELD
    assert end.reason == "1 of 2 targets ready; n1 undone: b: disk too small (nothing stands)"
    status = saga.status(fence.operation)
    assert {t.target: t.outcome for t in status.targets.values()} == {
        "n1": TargetOutcome.UNDONE,
        "n2": TargetOutcome.READY,
    }
    # Resumed by an operator: only what is not ready is done, from a new state before.
    fence = saga.begin(fence.operation, worker="w2")
    saga.set_state(fence, OperationState.RUNNING)
    world.done.clear()
    for target in ("n1", "n2"):
        for step in (A, B):
            saga.run(fence, step, world, target=target)
    assert world.done == ["a", "b"]
    assert saga.settle(fence).state is OperationState.SUCCEEDED


def test_a_succeeded_operation_can_be_rolled_back(saga: Saga) -> None:
    fence, world = started(saga, A), World()
    saga.run(fence, A, world, target="n1")
    assert saga.settle(fence).state is OperationState.SUCCEEDED
    fence = saga.begin(fence.operation, worker="w2")
    saga.set_state(fence, OperationState.UNWINDING)
    saga.undo(fence, A, world, target="n1")
    assert saga.settle(fence).state is OperationState.ROLLED_BACK
    assert saga.settle(fence).state is OperationState.ROLLED_BACK, "settling again changes nothing"


def test_both_errors_of_a_failed_undo_are_kept(saga: Saga) -> None:
    def stuck(_world: World, _checkpoint: Checkpoint) -> JsonMap:
        raise Unreachable("BMC gone", hint="look at the cable")

    step = Step(name="a", title="", do=A.do, undo=stuck)
    fence, world = started(saga, step), World(fail=lambda: Rejected("no disk"))
    with pytest.raises(Rejected):
        saga.run(fence, step, world, target="n1")
    with pytest.raises(UndoFailed) as caught:
        saga.undo(fence, step, world, target="n1")
    assert isinstance(caught.value.undo_error, Unreachable)
    assert caught.value.cause == "Rejected: no disk"
    assert caught.value.hint == "look at the cable"
    status = saga.status(fence.operation).step("a", "n1")
    assert (status.undo, status.undo_attempts) == (UndoState.FAILED, 1)
    assert status.error is not None
    assert status.undo_error is not None
    assert (status.error.message, status.undo_error.message) == ("no disk", "BMC gone")
    assert saga.should_retry(step, caught.value, 1) is not None


def test_cancel_is_requested_once_seen_by_the_worker_and_answered_by_the_end(saga: Saga) -> None:
    fence = started(saga, A)
    assert not saga.cancel_requested(fence.operation)
    saga.request_cancel(fence.operation, "ann", "wrong rack")
    seq = saga.status(fence.operation).last_seq
    saga.request_cancel(fence.operation, "bob", "me too")
    assert saga.status(fence.operation).last_seq == seq
    assert saga.cancel_requested(fence.operation)
    assert saga.settle(fence).state is OperationState.CANCELLED
    assert not saga.cancel_requested(fence.operation)
    assert saga.status(fence.operation).error == "cancelled by ann: wrong rack; nothing stands"
    with pytest.raises(Conflict, match="nothing to cancel"):
        saga.request_cancel(fence.operation, "ann", "again")


def test_code_of_another_minor_version_is_refused(saga: Saga, log: StepLog) -> None:
    fence = started(saga, A)
    newer = Saga(log, now, "1.1.0")
    with pytest.raises(IncompatibleVersion) as caught:
        newer.begin(fence.operation, worker="w2")
    assert "1.0.0" in caught.value.hint
    saga.check(fence)
    Saga(log, now, "1.0.7").begin(fence.operation, worker="w2")
    with pytest.raises(LeaseLost):
        saga.check(fence)


def test_takeovers_without_progress_are_counted(saga: Saga) -> None:
    fence, world = started(saga, A, B), World()
    for n in range(2, 5):
        fence = saga.begin(fence.operation, worker=f"w{n}", run=f"run-{n}")
    status = saga.status(fence.operation)
    assert (status.takeovers, status.run, status.worker) == (3, "run-4", "w4")
    assert status.expires is not None
    saga.run(fence, A, world, target="n1")
    assert saga.status(fence.operation).takeovers == 0


def test_listing_shows_the_newest_first_by_state(saga: Saga) -> None:
    fences = [started(saga, A) for _ in range(3)]
    saga.run(fences[1], A, World(), target="n1")
    saga.settle(fences[1])
    ids = [f.operation for f in fences]
    assert [s.id for s in saga.statuses()] == ids[::-1]
    assert [s.id for s in saga.statuses(limit=1)] == ids[2:]
    assert [s.id for s in saga.statuses(states=[OperationState.RUNNING])] == [ids[2], ids[0]]
    assert [s.id for s in saga.statuses(states=[OperationState.RUNNING], limit=1)] == [ids[2]]
    assert all(s == saga.status(s.id) for s in saga.statuses())


def test_error_classes_know_their_way_back(saga: Saga) -> None:
    error: LevierError = Irreversible("x", hint="y")
    assert saga.should_retry(A, error, 1) is None
