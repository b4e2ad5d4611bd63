"""Two real workers on one operation: the one that was paused past its lease can do nothing more."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from levier.domain.errors import LeaseLost, StoreUnavailable
from levier.domain.operation import JsonMap, OperationState
from levier.saga.engine import Saga
from levier.store import base
from levier.store.fencing import hold
from tests.integration.file_saga import STEPS, FileCase, Files, prepare
from tests.integration.postgres_server import PostgresServer
from tests.integration.saga_faults import begin, make_saga, order, process, with_step

FENCED = 42
"""Exit status of a worker that ended by LeaseLost."""


def wait_for(condition: Callable[[], bool], what: str, *, timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.01)  # between two looks


def stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"


def pause_inside(case: FileCase, where: str, *, acting: bool) -> FileCase:
    """The case whose write-image, in the process that calls it, stops itself right before (or after) it acts.

    It stops by SIGSTOP, between the look at its fence or the effect and whatever comes next.
    """
    real = next(step for step in STEPS if step.name == "write-image")

    def do(ctx: Files) -> JsonMap:
        result = real.do(ctx) if acting else {}
        Path(where).write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGSTOP)
        return result if acting else real.do(ctx)

    changed: FileCase = with_step(case, replace(real, do=do))
    return changed


@pytest.fixture
def case(tmp_path: Path) -> FileCase:
    root = tmp_path / "world"
    root.mkdir()
    prepare(root)
    return FileCase(root)


@pytest.mark.parametrize("acting", [False, True], ids=["before-acting", "after-acting"])
@pytest.mark.parametrize("direction", ["resume", "unwind"])
def test_a_paused_worker_is_fenced_off(
    saga: Saga, database_url: str, case: FileCase, tmp_path: Path, acting: bool, direction: str
) -> None:
    operation = order(saga, case).id
    marker = tmp_path / "paused"
    paused = pause_inside(case, str(marker), acting=acting)

    def first_worker() -> None:
        try:
            begin(make_saga(database_url), paused, operation).forward()
        except LeaseLost:
            os._exit(FENCED)

    with process(first_worker) as first:
        assert first.pid is not None
        wait_for(lambda: marker.exists() and stopped(first.pid or 0), "the first worker to be stopped")
        second = begin(saga, case, operation)
        if direction == "resume":
            second.forward()
            assert second.saga.settle(second.fence).state is OperationState.SUCCEEDED
        else:
            second.backward()
            assert second.saga.settle(second.fence).state is OperationState.ROLLED_BACK
        log_before, world_before = second.status(), world(case.root)
        os.kill(first.pid, signal.SIGCONT)
        first.join(30)
        assert first.exitcode == FENCED
    assert second.status() == log_before, "not one event by the fenced-off worker"
    assert world(case.root) == world_before, "not one command by the fenced-off worker"


def world(root: Path) -> dict[str, str]:
    return {str(p): p.read_text() for p in sorted(root.rglob("*")) if p.is_file()}


def test_nothing_can_be_written_with_an_old_fence(saga: Saga, case: FileCase) -> None:
    old = begin(saga, case, order(saga, case).id)
    old.forward(up_to="make-home")
    lease = saga.leases()[0]
    new = begin(saga, case, old.fence.operation)
    assert new.fence.generation == old.fence.generation + 1
    assert saga.leases()[0].generation == lease.generation + 1
    before = new.status()
    writes: list[Callable[[], object]] = [
        lambda: saga.check(old.fence),
        lambda: saga.renew(old.fence),
        lambda: saga.acquire_lease(old.fence, "n9"),
        lambda: saga.release_lease(old.fence, case.target),
        lambda: saga.set_state(old.fence, OperationState.UNWINDING),
        lambda: saga.run(old.fence, case.steps[3], old.context(), target=case.target),
        lambda: saga.undo(old.fence, case.steps[2], old.context(), target=case.target),
    ]
    for write in writes:
        with pytest.raises(LeaseLost, match="taken over"):
            write()
    assert new.status() == before
    saga.check(new.fence)


def test_many_workers_that_take_over_at_once_leave_one_alive(saga: Saga, database_url: str, case: FileCase) -> None:
    """Each begins, runs everything it can and is fenced off by the next: the effects happen once all the same."""
    operation = order(saga, case).id

    def work() -> None:
        try:
            begin(make_saga(database_url), case, operation).forward()
        except LeaseLost:
            os._exit(FENCED)

    with process(work) as a, process(work) as b, process(work) as c:
        codes = []
        for each in (a, b, c):
            each.join(60)
            codes.append(each.exitcode)
    assert set(codes) <= {0, FENCED}
    assert 0 in codes, "the last one to take over finishes"
    case.check_done()
    events = saga.status(operation)
    assert [s.state for s in events.steps] == ["succeeded"] * len(case.steps)


def test_postgresql_takes_the_row_from_a_worker_that_stopped_while_it_held_it(
    postgres: PostgresServer, migrated_postgres: str, case: FileCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction of the stopped one is ended by the server; the next worker gets the row and goes on."""
    url = postgres.url(postgres.new_database(template=migrated_postgres))
    first = begin(make_saga(url), case, order(make_saga(url), case).id)
    with monkeypatch.context() as brief:  # for the connection of the one that stops, and for nobody else's
        brief.setattr(base, "IDLE_IN_TRANSACTION_S", 1)
        engine = base.open_engine(url)
        engine.connect().close()

    def stop_in_the_middle() -> None:
        with base.writing(engine) as session:
            hold(session, first.fence)
            begin(make_saga(url), case, first.fence.operation).forward()
            session.execute(text("SELECT 1"))

    with pytest.raises(StoreUnavailable):
        stop_in_the_middle()
    case.check_done()
