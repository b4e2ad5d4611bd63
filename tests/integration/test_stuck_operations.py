"""Decisions of a person on stuck operations, on both databases: what they lead to, when they are refused, the audit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from levier.domain.audit import OrderVerb
from levier.domain.errors import Conflict, InvalidRequest, LeaseLost, LevierError, NotFound, UndoFailed
from levier.domain.operation import OperationState, PlannedStep, StepState, TargetOutcome, UndoState
from levier.saga.engine import Saga
from levier.saga.step import StepRegistry, Undo
from levier.saga.verbs import Verbs, left_behind
from levier.store.step_log import SqlStepLog
from levier.store.verb_log import SqlVerbLog
from tests.integration.conducting import carried_out
from tests.integration.file_saga import STEPS, FileCase, prepare
from tests.integration.saga_faults import (
    Injected,
    InjectedUnknown,
    Worker,
    begin,
    failing_do,
    failing_undo,
    now,
    order,
    with_step,
)

S = OperationState
STEP = {step.name: step for step in STEPS}
WHO, WHY = "ann@desk7", "the disk was replaced"


@dataclass(frozen=True)
class Desk:
    """A saga on real files, and the verbs on the same log."""

    saga: Saga
    engine: Engine
    case: FileCase

    def verbs(self, case: FileCase | None = None) -> Verbs:
        registry = StepRegistry()
        registry.add(*(case or self.case).steps)
        return Verbs(SqlStepLog(self.engine), SqlVerbLog(self.engine), registry, clock=now)

    def needing_an_operator(self, *, while_unwinding: bool = True) -> Worker:
        """configure failed for good; so did the undo of write-image."""
        case = with_step(self.case, failing_do(STEP["configure"], error=Injected, times=99, after=False)[0])
        case = with_step(case, failing_undo(STEP["write-image"], times=99, after=False)[0])
        worker = begin(self.saga, case, order(self.saga, case).id)
        with pytest.raises(Injected):
            worker.forward()
        if while_unwinding:
            self.saga.set_state(worker.fence, S.UNWINDING)
        with pytest.raises(UndoFailed):
            undo_all(worker)
        assert self.saga.settle(worker.fence).state is S.NEEDS_OPERATOR
        return worker

    def held(self, case: FileCase | None = None) -> Worker:
        """configure failed for good and nothing was undone."""
        case = with_step(case or self.case, failing_do(STEP["configure"], error=Injected, times=99, after=False)[0])
        worker = begin(self.saga, case, order(self.saga, case).id)
        with pytest.raises(Injected):
            worker.forward()
        assert self.saga.settle(worker.fence).state is S.HELD
        return worker


def undo_all(worker: Worker) -> None:
    """What `Worker.backward` does, in whatever state the operation is."""
    ctx, steps = worker.context(), {s.name: s for s in worker.case.steps}
    for name, target in worker.saga.unwind_plan(worker.status()):
        worker.saga.undo(worker.fence, steps[name], ctx, target=target)


@pytest.fixture
def desk(engine: Engine, saga: Saga, tmp_path: Path) -> Desk:
    root = tmp_path / "world"
    root.mkdir()
    prepare(root)
    return Desk(saga, engine, FileCase(root))


def test_a_given_up_undo_stands_and_the_rest_is_undone(desk: Desk) -> None:
    worker = desk.needing_an_operator()
    identity, verbs = worker.fence.operation, desk.verbs()
    before = verbs.skip(identity, "write-image", target=None, who=WHO, reason=WHY)
    assert before.undo is UndoState.FAILED
    status = worker.status()
    assert status.state is S.NEEDS_OPERATOR, "skipping leaves it stuck"
    assert status.step("write-image", "n1").undo is UndoState.ABANDONED
    assert verbs.resume(identity, who=WHO, reason="") == "unwinding"
    # As in Levier's own steps, the lease goes back after the last undo, not by one.
    again = begin(desk.saga, with_step(desk.case, replace(STEP["acquire-lease"], undo=Undo.NO_EFFECT)), identity)
    end = carried_out(again)
    assert [s.step for s in again.status().stands] == ["write-image"]
    assert [lease.node for lease in desk.saga.leases()] == ["n1"], "while something stands, the node stays held"
    assert end.state is S.NEEDS_OPERATOR, "nothing but a person's word ends it while something stands"
    assert f"given up by {WHO}: {WHY}" in end.reason
    assert (desk.case.root / "images" / "n1").exists()
    assert not list((desk.case.root / "homes").iterdir())


def test_a_resumed_unwinding_tries_the_failed_undo_again(desk: Desk) -> None:
    worker = desk.needing_an_operator()
    assert desk.verbs().resume(worker.fence.operation, who=WHO, reason=WHY) == "unwinding"
    assert carried_out(begin(desk.saga, desk.case, worker.fence.operation)).state is S.ROLLED_BACK
    desk.case.check_undone()


def test_an_operation_that_went_forward_as_a_whole_goes_forward_when_resumed(desk: Desk) -> None:
    worker = desk.needing_an_operator(while_unwinding=False)
    assert desk.verbs().resume(worker.fence.operation, who=WHO, reason=WHY) == "forward"


def test_a_skipped_step_counts_as_done(desk: Desk) -> None:
    worker = desk.held()
    identity, verbs = worker.fence.operation, desk.verbs()
    verbs.skip(identity, "configure", target="n1", who=WHO, reason=WHY)
    skipped = worker.status().step("configure", "n1")
    assert (skipped.state, skipped.done, skipped.error) == (StepState.SKIPPED, True, None)
    assert skipped.skipped is not None
    assert (skipped.skipped["who"], skipped.skipped["reason"]) == (WHO, WHY)
    assert "Injected" in skipped.skipped["because"]
    assert verbs.resume(identity, who=WHO, reason=WHY) == "forward"
    again = begin(desk.saga, desk.case, identity)
    again.forward()
    assert desk.saga.settle(again.fence).state is S.SUCCEEDED
    assert (desk.case.root / "config" / "n1").read_text() == "written by somebody before Levier\n", "nobody did it"


def test_a_skipped_step_that_had_acted_is_undone_like_any_other(desk: Desk) -> None:
    case = with_step(desk.case, failing_do(STEP["configure"], error=Injected, times=99, after=True)[0])
    worker = begin(desk.saga, case, order(desk.saga, case).id)
    with pytest.raises(Injected):
        worker.forward()
    desk.saga.settle(worker.fence)
    desk.verbs().skip(worker.fence.operation, "configure", target=None, who=WHO, reason=WHY)
    again = begin(desk.saga, desk.case, worker.fence.operation)
    again.forward()
    again.backward()
    desk.case.check_undone()


def test_a_step_that_failed_and_was_undone_can_be_skipped_for_the_next_round(desk: Desk) -> None:
    """Held with one node ready and one undone, as real operations are."""
    two = [PlannedStep(s.name, n) for n in ("n1", "n2") for s in STEPS]
    prepare_more(desk.case.root, "n2")
    operation = desk.saga.create(kind="test", targets=["n1", "n2"], plan=two).id
    first = begin(desk.saga, desk.case, operation)
    first.forward()
    failing = with_step(
        replace(desk.case, target="n2"), failing_do(STEP["verify"], error=Injected, times=99, after=False)[0]
    )
    second = Worker(desk.saga, first.fence, failing)
    with pytest.raises(Injected):
        second.forward()
    ctx, steps = second.context(), {s.name: s for s in failing.steps}
    for name, target in desk.saga.unwind_plan(second.status(), "n2"):
        desk.saga.undo(first.fence, steps[name], ctx, target=target)
    assert desk.saga.settle(first.fence).state is S.HELD
    verbs = desk.verbs()
    verbs.skip(operation, "verify", target=None, who=WHO, reason=WHY)
    status = desk.saga.status(operation)
    assert status.targets["n2"].outcome is TargetOutcome.UNDONE
    assert left_behind(status) == ()
    verbs.resume(operation, who=WHO, reason=WHY)
    assert carried_out(begin(desk.saga, replace(desk.case, target="n2"), operation)).state is S.SUCCEEDED
    done = desk.saga.status(operation)
    assert done.step("verify", "n2").state is StepState.SKIPPED


def prepare_more(root: Path, *targets: str) -> None:
    for target in targets:
        (root / "config" / target).write_text("written by somebody before Levier\n")


def test_a_step_whose_outputs_are_needed_cannot_be_skipped(desk: Desk) -> None:
    case = with_step(desk.case, replace(STEP["verify"], needs=("configure",)))
    case = with_step(case, replace(STEP["release-lease"], needs=("configure",)))
    worker = desk.held(case)
    with pytest.raises(Conflict, match=r"configure on n1 cannot be skipped: verify, release-lease need") as caught:
        desk.verbs(case).skip(worker.fence.operation, "configure", target=None, who=WHO, reason=WHY)
    assert f"levier operation resume {worker.fence.operation}" in caught.value.hint


def test_the_lease_cannot_be_skipped(desk: Desk) -> None:
    case = with_step(desk.case, failing_do(STEP["acquire-lease"], error=Injected, times=99, after=False)[0])
    worker = begin(desk.saga, case, order(desk.saga, case).id)
    with pytest.raises(Injected):
        worker.forward()
    desk.saga.settle(worker.fence)
    with pytest.raises(Conflict, match="without the lease two operations could work on the node"):
        desk.verbs().skip(worker.fence.operation, "acquire-lease", target=None, who=WHO, reason=WHY)


@pytest.mark.parametrize("step", ["make-home", "verify"])
def test_only_what_failed_can_be_skipped(desk: Desk, step: str) -> None:
    worker = desk.held()
    with pytest.raises(Conflict, match="only what failed can be skipped"):
        desk.verbs().skip(worker.fence.operation, step, target=None, who=WHO, reason=WHY)
    with pytest.raises(NotFound, match="has no step fly"):
        desk.verbs().skip(worker.fence.operation, "fly", target=None, who=WHO, reason=WHY)


def test_an_abandoned_operation_is_over_holds_no_node_and_still_says_what_stands(desk: Desk) -> None:
    worker = desk.needing_an_operator()
    identity, verbs = worker.fence.operation, desk.verbs()
    standing = [s.step for s in worker.status().stands]
    assert [lease.node for lease in desk.saga.leases()] == ["n1"]
    verbs.abandon(identity, who=WHO, reason=WHY)
    status = worker.status()
    assert (status.state, status.error) == (S.CANCELLED, f"abandoned by {WHO}: {WHY}")
    assert [s.step for s in status.stands] == standing == ["acquire-lease", "allocate-name", "make-home", "write-image"]
    assert left_behind(status) == (("n1", tuple(standing)),)
    assert desk.saga.leases() == ()
    assert [fence.operation for fence in verbs.abandoned_on("n1")] == [identity]
    desk.saga.check(verbs.abandoned_on("n1")[0])
    with pytest.raises(LeaseLost):
        desk.saga.renew(worker.fence)
    other = begin(desk.saga, desk.case, order(desk.saga, desk.case).id)
    desk.saga.acquire_lease(other.fence, "n1")
    verbs.order(identity, OrderVerb.CLEAR_FAULT, who=WHO, reason="looked at it", node="n1")
    assert verbs.abandoned_on("n1") == ()


@pytest.mark.parametrize("state", [s for s in S if s not in (S.HELD, S.NEEDS_OPERATOR, S.AWAITING_APPROVAL)])
@pytest.mark.parametrize("verb", ["resume", "skip", "abandon"])
def test_refused_in_any_other_state_with_what_can_be_done(desk: Desk, state: OperationState, verb: str) -> None:
    identity = in_state(desk, state)
    verbs, log = desk.verbs(), desk.verbs().audit(identity)
    words: dict[str, Any] = {"who": WHO, "reason": WHY}
    calls = {
        "resume": lambda: verbs.resume(identity, **words),
        "skip": lambda: verbs.skip(identity, "configure", target="n1", **words),
        "abandon": lambda: verbs.abandon(identity, **words),
    }
    with pytest.raises(Conflict, match=f"is {state}: there is nothing to {verb}") as caught:
        calls[verb]()
    assert "levier" in caught.value.hint or "start another one" in caught.value.hint
    assert verbs.audit(identity) == log, "what is refused leaves no trace"


def in_state(desk: Desk, state: OperationState) -> str:
    """An operation that really is in this state."""
    identity = order(desk.saga, desk.case).id
    if state is S.PLANNED:
        return identity
    worker = begin(desk.saga, desk.case, identity)
    if state is S.RUNNING:
        worker.forward(up_to="make-home")
    elif state is S.UNWINDING:
        worker.forward(up_to="make-home")
        desk.saga.set_state(worker.fence, S.UNWINDING)
    elif state is S.SUCCEEDED:
        worker.forward()
        desk.saga.settle(worker.fence)
    else:
        worker.forward(up_to="make-home")
        if state is S.CANCELLED:
            desk.saga.request_cancel(identity, WHO, WHY)
        worker.backward()
        desk.saga.settle(worker.fence)
    assert worker.status().state is state
    return identity


@pytest.mark.parametrize("reason", ["", "  ", "\t\n"])
def test_skip_and_abandon_need_a_reason(desk: Desk, reason: str) -> None:
    worker = desk.held()
    verbs = desk.verbs()
    refused: list[LevierError] = []
    for call in (
        lambda: verbs.skip(worker.fence.operation, "configure", target="n1", who=WHO, reason=reason),
        lambda: verbs.abandon(worker.fence.operation, who=WHO, reason=reason),
    ):
        with pytest.raises(InvalidRequest, match="needs a reason") as caught:
            call()
        refused.append(caught.value)
    assert all("--reason" in error.hint for error in refused)
    assert worker.status().state is S.HELD


def test_a_repeated_order_is_noted_once_until_a_worker_follows_it(desk: Desk) -> None:
    worker = desk.held()
    identity, verbs = worker.fence.operation, desk.verbs()
    assert not verbs.is_ordered(identity)
    for _ in range(3):
        verbs.resume(identity, who=WHO, reason=WHY)
    assert verbs.is_ordered(identity)
    worked = worker.status().worked_seq
    verbs.resume(identity, who="bob@desk8", reason=WHY)
    assert [e.who for e in verbs.audit(identity) if e.what == "resume"] == [WHO, "bob@desk8"]
    assert worker.status().worked_seq == worked, "orders are no work: the request for an undo stays the same request"
    desk.saga.begin(identity, worker="w2")
    assert not verbs.is_ordered(identity)
    verbs.resume(identity, who=WHO, reason=WHY)
    assert [e.who for e in verbs.audit(identity) if e.what == "resume"] == [WHO, "bob@desk8", WHO]


def test_the_audit_has_every_decision_in_order(desk: Desk) -> None:
    case = with_step(desk.case, failing_do(STEP["configure"], error=Injected, times=99, after=False)[0])
    case = with_step(case, failing_undo(STEP["write-image"], times=99, after=False)[0])
    plan = [PlannedStep(s.name, "n1") for s in STEPS]
    identity = desk.saga.create(kind="test", targets=["n1"], plan=plan, requested_by="eve@desk1", key="run-1").id
    worker = Worker(desk.saga, desk.saga.begin(identity, worker="host:1", run="run-1"), case)
    with pytest.raises(Injected):
        worker.forward()
    desk.saga.request_cancel(identity, "bob@desk8", "wrong rack")
    with pytest.raises(UndoFailed):
        worker.backward()
    desk.saga.settle(worker.fence)
    verbs = desk.verbs()
    verbs.skip(identity, "write-image", target=None, who=WHO, reason=WHY)
    verbs.resume(identity, who=WHO, reason="go on")
    Worker(desk.saga, desk.saga.begin(identity, worker="host:2", run="run-2"), desk.case).backward()
    desk.saga.settle(desk.saga.begin(identity, worker="host:3"))
    verbs.abandon(identity, who="eve@desk1", reason="the disk is destroyed")
    told = [(e.what, e.who, e.why, e.detail) for e in verbs.audit(identity)]
    assert told[0] == ("order", "eve@desk1", "", "Levier 1.0.0")
    assert ("take-over", "host:1", "", "flow run run-1") in told
    decisions = [each[:3] for each in told if each[0] in {"cancel", "skip", "resume", "abandon"}]
    assert decisions == [
        ("cancel", "bob@desk8", "wrong rack"),
        ("skip", WHO, WHY),
        ("resume", WHO, "go on"),
        ("abandon", "eve@desk1", "the disk is destroyed"),
    ]
    skip = next(each for each in told if each[0] == "skip")
    assert skip[3].startswith("the undo of write-image on n1, instead of: InjectedUnknown: ")
    assert told[-1] == ("state", "eve@desk1", "abandoned by eve@desk1: the disk is destroyed", "ended: cancelled")
    at = [e.at for e in verbs.audit(identity)]
    assert at == sorted(at)
    assert verbs.find("run-1") == identity
    assert verbs.find("run-2") is None


def test_an_open_undo_of_a_dead_worker_can_be_given_up(desk: Desk) -> None:
    """Escalated while unwinding: the undo is neither done nor failed."""
    worker = begin(desk.saga, desk.case, order(desk.saga, desk.case).id)
    worker.forward()
    broken = failing_undo(STEP["release-lease"], times=99, after=False)[0]
    desk.saga.set_state(worker.fence, S.UNWINDING)
    with pytest.raises(UndoFailed) as caught:
        desk.saga.undo(worker.fence, broken, worker.context(), target="n1")
    assert isinstance(caught.value.undo_error, InjectedUnknown)
    desk.saga.hand_over(worker.fence.operation, "taken up 5 times without progress")
    assert worker.status().goes_back
    desk.verbs().skip(worker.fence.operation, "release-lease", target=None, who=WHO, reason=WHY)
    assert worker.status().step("release-lease", "n1").undo is UndoState.ABANDONED
