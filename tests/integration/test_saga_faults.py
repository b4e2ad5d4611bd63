"""The fault suite over a saga of real files, on both databases."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from levier.domain.errors import LevierError, UndoFailed
from levier.domain.operation import OperationState, StepState, TargetOutcome, UndoState
from levier.saga.engine import Saga
from tests.integration.file_saga import STEPS, FileCase, prepare
from tests.integration.saga_faults import (
    Injected,
    InjectedUnknown,
    Kill,
    begin,
    failing_do,
    failing_undo,
    killed_around,
    make_saga,
    order,
    process,
    with_step,
)

NAMES = [step.name for step in STEPS]
STEP = {step.name: step for step in STEPS}


@pytest.fixture
def case(tmp_path: Path) -> FileCase:
    root = tmp_path / "world"
    root.mkdir()
    prepare(root)
    return FileCase(root)


@pytest.mark.parametrize("direction", ["resume", "unwind"])
@pytest.mark.parametrize("kill", [k for k in Kill if not k.while_undoing])
@pytest.mark.parametrize("name", NAMES)
def test_killed_going_forward(
    saga: Saga, database_url: str, case: FileCase, name: str, kill: Kill, direction: str
) -> None:
    operation = order(saga, case).id
    killed_around(database_url, case, operation, name, kill)
    died = saga.status(operation)
    worker = begin(saga, case, operation)
    if direction == "resume":
        worker.forward()
        case.check_done()
        assert worker.saga.settle(worker.fence).state is OperationState.SUCCEEDED
        assert saga.leases() == ()
        for before in died.steps:
            if before.done:
                assert worker.status().step(before.step, before.target) == before, "a completed step is not repeated"
    else:
        worker.backward()
        case.check_undone()
        assert worker.saga.settle(worker.fence).state is OperationState.ROLLED_BACK
        assert worker.status().stands == ()


@pytest.mark.parametrize("kill", [k for k in Kill if k.while_undoing])
@pytest.mark.parametrize("name", NAMES)
def test_killed_while_undoing(saga: Saga, database_url: str, case: FileCase, name: str, kill: Kill) -> None:
    operation = order(saga, case).id
    killed_around(database_url, case, operation, name, kill)
    assert saga.status(operation).state is OperationState.UNWINDING
    worker = begin(saga, case, operation)
    worker.backward()
    case.check_undone()
    assert worker.saga.settle(worker.fence).state is OperationState.ROLLED_BACK


@pytest.mark.parametrize("seed", range(6))
def test_killed_at_any_moment(saga: Saga, database_url: str, case: FileCase, seed: int) -> None:
    """Not at a commit but anywhere, several times over, until nothing is left to do."""
    moments = random.Random(seed)
    operation = order(saga, case).id
    for _ in range(4):
        with process(lambda: begin(make_saga(database_url), case, operation).forward()):
            time.sleep(moments.uniform(0, 0.15))  # the moment of the kill is what is random here
    worker = begin(saga, case, operation)
    worker.forward()
    case.check_done()
    for _ in range(4):
        with process(lambda: begin(make_saga(database_url), case, operation).backward()):
            time.sleep(moments.uniform(0, 0.15))
    worker = begin(saga, case, operation)
    worker.backward()
    case.check_undone()
    assert worker.saga.settle(worker.fence).state is OperationState.ROLLED_BACK


@pytest.mark.parametrize("after", [False, True], ids=["before-acting", "after-acting"])
@pytest.mark.parametrize("name", NAMES)
def test_fails_once_and_is_retried(saga: Saga, case: FileCase, name: str, after: bool) -> None:
    changed, faulty = failing_do(STEP[name], error=InjectedUnknown, times=1, after=after)
    case = with_step(case, changed)
    worker = begin(saga, case, order(saga, case).id)
    worker.forward()
    case.check_done()
    status = worker.status().step(name, case.target)
    assert (status.attempts, status.state, faulty.calls) == (2, StepState.SUCCEEDED, 2)


@pytest.mark.parametrize("error", [Injected, InjectedUnknown])
@pytest.mark.parametrize("after", [False, True], ids=["before-acting", "after-acting"])
@pytest.mark.parametrize("name", NAMES)
def test_fails_for_good_and_is_undone(
    saga: Saga, case: FileCase, name: str, after: bool, error: type[LevierError]
) -> None:
    changed, _ = failing_do(STEP[name], error=error, times=99, after=after)
    case = with_step(case, changed)
    worker = begin(saga, case, order(saga, case).id)
    with pytest.raises(error):
        worker.forward()
    failed = worker.status().step(name, case.target)
    assert failed.state is (StepState.FAILED if error is Injected else StepState.UNKNOWN)
    assert failed.error is not None
    assert (failed.error.error, failed.error.hint) == (error.__name__, "it is a test")
    worker.backward()
    case.check_undone()
    assert worker.saga.settle(worker.fence).state is OperationState.ROLLED_BACK
    assert worker.status().error == f"n1: {name}: {failed.error.message}"
    assert worker.status().targets[case.target].outcome is TargetOutcome.UNDONE


@pytest.mark.parametrize("name", NAMES)
def test_repeated_after_success(saga: Saga, case: FileCase, name: str) -> None:
    changed, faulty = failing_do(STEP[name], error=Injected, times=0, after=False)
    case = with_step(case, changed)
    worker = begin(saga, case, order(saga, case).id)
    worker.forward(up_to=name)
    status = worker.status().step(name, case.target)
    again = saga.run(worker.fence, changed, worker.context(), target=case.target)
    assert again == status.outputs
    assert faulty.calls == 1, "what the log says is done is not done again"
    assert worker.status().step(name, case.target) == status
    # And the function itself, as after a kill between side effect and commit.
    assert STEP[name].do(worker.context()) == again
    worker.forward()
    case.check_done()


@pytest.mark.parametrize("name", NAMES)
def test_undo_repeated(saga: Saga, case: FileCase, name: str) -> None:
    changed, faulty = failing_undo(STEP[name], times=0, after=False)
    case = with_step(case, changed)
    worker = begin(saga, case, order(saga, case).id)
    worker.forward()
    worker.backward()
    status = worker.status().step(name, case.target)
    saga.undo(worker.fence, changed, worker.context(), target=case.target)
    assert faulty.calls == 1
    assert worker.status().step(name, case.target) == status
    case.check_undone()


@pytest.mark.parametrize("after", [False, True], ids=["before-acting", "after-acting"])
@pytest.mark.parametrize("name", NAMES)
def test_undo_fails_then_succeeds(saga: Saga, case: FileCase, name: str, after: bool) -> None:
    changed, faulty = failing_undo(STEP[name], times=1, after=after)
    case = with_step(case, changed)
    worker = begin(saga, case, order(saga, case).id)
    worker.forward()
    worker.backward()
    case.check_undone()
    status = worker.status().step(name, case.target)
    assert (status.undo, status.undo_attempts, status.undo_error, faulty.calls) == (UndoState.UNDONE, 2, None, 2)
    assert worker.saga.settle(worker.fence).state is OperationState.ROLLED_BACK


@pytest.mark.parametrize("name", NAMES)
def test_undo_never_succeeds(saga: Saga, case: FileCase, name: str) -> None:
    undo_fails, _ = failing_undo(STEP[name], times=99, after=False)
    broken, _ = failing_do(undo_fails, error=Injected, times=99, after=True)
    healthy, case = case, with_step(case, broken)
    worker = begin(saga, case, order(saga, case).id)
    with pytest.raises(Injected) as first:
        worker.forward()
    with pytest.raises(UndoFailed) as caught:
        worker.backward()
    assert caught.value.cause == f"Injected: {first.value}"
    assert isinstance(caught.value.undo_error, InjectedUnknown)
    end = worker.saga.settle(worker.fence)
    assert end.state is OperationState.NEEDS_OPERATOR
    status = worker.status()
    assert [s.step for s in status.stands] == NAMES[: NAMES.index(name) + 1], "all that stands is listed"
    assert str(caught.value.undo_error) in (status.error or "")
    assert str(first.value) in (status.error or "")
    # The cause is repaired: the unwinding is resumed and ends well.
    worker = begin(saga, healthy, status.id)
    worker.backward()
    healthy.check_undone()
    assert worker.saga.settle(worker.fence).state is OperationState.ROLLED_BACK


def test_the_log_of_a_killed_worker_names_it(saga: Saga, database_url: str, case: FileCase) -> None:
    operation = order(saga, case).id
    killed_around(database_url, case, operation, "write-image", Kill.BEFORE_COMMIT)
    open_step = saga.status(operation).step("write-image", case.target)
    assert (open_step.state, open_step.finished, open_step.outputs) == (StepState.RUNNING, None, None)
    assert saga.status(operation).targets[case.target].outcome is TargetOutcome.RUNNING
    assert saga.leases()[0].operation == operation, "the dead worker's lease stays until its operation is settled"
