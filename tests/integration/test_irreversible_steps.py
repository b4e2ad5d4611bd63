"""Past a step without a way back an operation is held, never half undone: wherever it fails, dies or is cancelled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from levier.domain.operation import OperationState, StepEventKind, UndoState
from levier.saga.engine import Saga
from levier.saga.step import Undo
from tests.integration.conducting import carried_out, taken_back
from tests.integration.file_saga import STEPS, FileCase, prepare
from tests.integration.saga_faults import (
    Injected,
    InjectedUnknown,
    Kill,
    Worker,
    begin,
    failing_do,
    killed_around,
    order,
    with_step,
)

STEP = {step.name: step for step in STEPS}
WITHOUT_RETURN = "write-image"
NAMES = list(STEP)
AFTER = NAMES[NAMES.index(WITHOUT_RETURN) + 1 :]
FORWARD = [k for k in Kill if not k.while_undoing]
UNDONE = {StepEventKind.UNDO_STARTED, StepEventKind.UNDONE}


@pytest.fixture
def case(tmp_path: Path) -> FileCase:
    root = tmp_path / "world"
    root.mkdir()
    prepare(root)
    return with_step(FileCase(root), replace(STEP[WITHOUT_RETURN], undo=Undo.IRREVERSIBLE))


def expect_held(worker: Worker, *standing: str) -> None:
    """It is held with all of that standing, nothing was undone, and the node is its own."""
    status = worker.status()
    assert status.state is OperationState.HELD
    assert set(standing) <= {s.step for s in status.stands}
    assert {s.undo for s in status.steps} == {UndoState.NONE}
    assert [lease.operation for lease in worker.saga.leases()] == [status.id]


@pytest.mark.parametrize("error", [Injected, InjectedUnknown])
@pytest.mark.parametrize("name", AFTER[:-1])
def test_a_failure_after_it_is_held_and_goes_on_when_resumed(
    saga: Saga, case: FileCase, name: str, error: type[Injected]
) -> None:
    failing = with_step(case, failing_do(STEP[name], error=error, times=99, after=False)[0])
    worker = begin(saga, failing, order(saga, case).id)
    assert carried_out(worker).state is OperationState.HELD
    expect_held(worker, "make-home", WITHOUT_RETURN, name)
    again = begin(saga, case, worker.fence.operation)
    assert carried_out(again).state is OperationState.SUCCEEDED
    case.check_done()


def test_its_own_failure_is_held_too_for_it_may_have_acted(saga: Saga, case: FileCase) -> None:
    step = next(s for s in case.steps if s.name == WITHOUT_RETURN)
    failing = with_step(case, failing_do(step, error=InjectedUnknown, times=99, after=True)[0])
    worker = begin(saga, failing, order(saga, case).id)
    assert carried_out(worker).state is OperationState.HELD
    expect_held(worker, "make-home", WITHOUT_RETURN)
    assert carried_out(begin(saga, case, worker.fence.operation)).state is OperationState.SUCCEEDED
    case.check_done()


def test_a_failure_before_it_is_undone_as_ever(saga: Saga, case: FileCase) -> None:
    failing = with_step(case, failing_do(STEP["make-home"], error=Injected, times=99, after=True)[0])
    worker = begin(saga, failing, order(saga, case).id)
    assert carried_out(worker).state is OperationState.ROLLED_BACK
    case.check_undone()
    assert saga.leases() == ()


@pytest.mark.parametrize("name", AFTER[:-1])
def test_a_request_to_cancel_after_it_holds_the_operation(saga: Saga, case: FileCase, name: str) -> None:
    worker = begin(saga, case, order(saga, case).id)
    worker.forward(up_to=name)
    saga.request_cancel(worker.fence.operation, "ann", "wrong rack")
    assert carried_out(begin(saga, case, worker.fence.operation)).state is OperationState.HELD
    expect_held(worker, WITHOUT_RETURN, name)


@pytest.mark.parametrize("kill", FORWARD)
@pytest.mark.parametrize("name", NAMES[NAMES.index(WITHOUT_RETURN) : -1])
def test_killed_around_it_and_taken_back_it_is_held_or_was_never_begun(
    saga: Saga, database_url: str, case: FileCase, name: str, kill: Kill
) -> None:
    operation = order(saga, case).id
    killed_around(database_url, case, operation, name, kill)
    worker = begin(saga, case, operation)
    begun = worker.status().step(WITHOUT_RETURN, "n1").stands
    assert begun is not (name == WITHOUT_RETURN and kill is Kill.BEFORE_START)
    end = taken_back(worker)
    if not begun:
        assert end.state is OperationState.ROLLED_BACK
        case.check_undone()
        return
    expect_held(worker, WITHOUT_RETURN)
    assert carried_out(begin(saga, case, operation)).state is OperationState.SUCCEEDED
    case.check_done()
