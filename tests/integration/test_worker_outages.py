"""A real worker, heart and all, that is cut off from its database for longer than its lease lasts."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from levier.domain.errors import LeaseLost, StoreUnavailable
from levier.domain.operation import JsonMap, OperationState, StepState
from levier.saga.step import Step, Undo
from levier.services.context import NodeContext
from levier.services.operation_run import OperationRun
from levier.store import migrate
from levier.store.base import open_engine
from tests.integration.postgres_server import PostgresServer
from tests.rig.worker import NODE, bare_worker, saga_on

LEASE_S = 2.0


class Rig:
    """A worker on a PostgreSQL server of its own, inside a step that goes on when it is let."""

    def __init__(self, server: PostgresServer, folder: Path) -> None:
        self.server = server
        self.database = server.new_database()
        self._way = Path(f"{server.home}-way")
        self.reconnect()
        self.engine = open_engine(f"postgresql+psycopg://levier@/{self.database}?host={self._way}")
        migrate.upgrade(self.engine)
        self.told: list[str] = []
        self.inside, self.go_on = threading.Event(), threading.Event()
        self.commanded = 0
        self.step = Step(name="command", title="", do=self._command, undo=Undo.NO_EFFECT)
        self.run: OperationRun = bare_worker(self.engine, folder, [self.step], lease_s=LEASE_S, tell=self.told.append)
        self.run.set_state(OperationState.RUNNING)
        self.run.hold(NODE)
        self.result: list[JsonMap | BaseException] = []
        self.thread = threading.Thread(target=self._work)

    def _command(self, ctx: NodeContext) -> JsonMap:
        self.inside.set()
        assert self.go_on.wait(60)
        ctx.guard()
        self.commanded += 1
        return {"commanded": self.commanded}

    def _work(self) -> None:
        try:
            self.result.append(self.run.do(self.step, NODE))
        except (LeaseLost, StoreUnavailable) as error:
            self.result.append(error)

    def reconnect(self) -> None:
        """The worker's way to the server is there."""
        self._way.symlink_to(self.server.home)

    def interrupt(self) -> None:
        """The server answers others; the worker has no connection and no way to it."""
        self._way.unlink(missing_ok=True)
        self.server.stop(signal.SIGKILL)
        self.server.start()

    def cut_off(self) -> None:
        """The worker is about to command something, has no database, and its lease ran out long ago."""
        self.thread.start()
        assert self.inside.wait(30)
        expires = self.run.status().expires
        self.interrupt()
        self.go_on.set()
        wait_for(lambda: bool(self.told), "the worker to wait")
        assert expires is not None
        wait_for(lambda: time.time() > expires.timestamp() + LEASE_S, "the lease to run out")
        assert self.commanded == 0

    def ended(self) -> JsonMap | BaseException:
        self.thread.join(30)
        return self.result[0]


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"waited 30 s for {what}"
        time.sleep(0.02)  # between two looks


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    server = PostgresServer()
    try:
        server.start()
        rig = Rig(server, tmp_path)
        yield rig
        rig.go_on.set()
        rig.run.close()
        rig.engine.dispose()
        Path(f"{server.home}-way").unlink()
    finally:
        server.remove()


def test_a_worker_that_nobody_replaced_goes_on(rig: Rig) -> None:
    rig.cut_off()
    rig.reconnect()
    assert rig.ended() == {"commanded": 1}
    step = rig.run.status().step("command", NODE)
    assert (step.state, step.attempts) == (StepState.SUCCEEDED, 1)
    assert [line.split(":")[0] for line in rig.told] == ["waiting", rig.told[1].split(":")[0]]
    assert "is back" in rig.told[1]
    wait_for(lambda: (rig.run.status().expires or step.started).timestamp() > time.time(), "signs of life")  # type: ignore[union-attr]


def test_a_worker_that_was_replaced_commands_nothing_more(rig: Rig) -> None:
    rig.cut_off()
    direct = open_engine(rig.server.url(rig.database))
    other = saga_on(direct, lease_s=60)
    fence = other.begin(rig.run.operation, worker="another")
    before = other.status(fence.operation)
    rig.reconnect()
    assert isinstance(rig.ended(), LeaseLost)
    assert rig.commanded == 0
    assert other.status(fence.operation) == before, "not one event, not one renewal by the one that was cut off"
    direct.dispose()
