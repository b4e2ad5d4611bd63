"""A database that is away around every commit of an operation: it pauses, goes on, loses nothing, doubles nothing.

The outage ends when the worker has looked in vain twice, so that it is known to wait; no clock is involved.
"""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from levier.domain.operation import Fence, OperationState, StepEvent
from levier.saga.engine import Saga
from levier.saga.store_patience import StorePatience
from levier.store import migrate
from levier.store.step_log import SqlStepLog
from tests.integration.file_saga import STEPS, FileCase, prepare
from tests.integration.postgres_server import PostgresServer
from tests.integration.saga_faults import VERSION, begin, now, order
from tests.integration.store_outages import (
    FullDisk,
    Killed,
    Outage,
    ReadOnlyDisk,
    ReadOnlyServer,
    SilentCommit,
    engine_on,
    world,
)


@pytest.fixture
def case(tmp_path: Path) -> FileCase:
    root = tmp_path / "world"
    root.mkdir()
    prepare(root)
    return FileCase(root)


@pytest.fixture(params=["killed", "stopped", "read-only-server"])
def server_outage(request: pytest.FixtureRequest) -> Iterator[Outage]:
    """Of a server of its own: others are used by other tests."""
    server = PostgresServer()
    try:
        server.start()
        url = server.url(server.new_database())
        with engine_on(url) as engine:
            migrate.upgrade(engine)
        if request.param == "read-only-server":
            yield ReadOnlyServer(server, url)
        else:
            yield Killed(server, url, signal.SIGKILL if request.param == "killed" else signal.SIGINT)
    finally:
        server.remove()


@pytest.fixture(params=[FullDisk, ReadOnlyDisk])
def disk_outage(request: pytest.FixtureRequest, tmp_path: Path, migrated_sqlite: Path) -> Iterator[Outage]:
    folder = tmp_path / "disk"
    folder.mkdir()
    disk = request.param(folder, migrated_sqlite)
    yield disk
    disk.remove()


# --- taking it away --------------------------------------------------------------------------------------------------


class Sabotaged(SqlStepLog):
    """The real log; around each of its writes of events, once, the database goes away."""

    def __init__(self, engine: Engine, outage: Outage, *, after: bool) -> None:
        super().__init__(engine)
        self._engine_used = engine
        self._outage = outage
        self._after = after
        self._struck: set[tuple[object, ...]] = set()

    def append(self, fence: Fence, **event: Any) -> StepEvent:
        place = (event["step"], event["kind"])
        if not self._after:
            self._strike(place)
        written = super().append(fence, **event)
        if self._after:
            self._strike(place)
        return written

    def _strike(self, place: tuple[object, ...]) -> None:
        if place not in self._struck:
            self._struck.add(place)
            self._outage.begin(self._engine_used)


@dataclass
class Watch:
    """Looks on while the worker waits: the world must not change; after the second look in vain the outage ends."""

    outage: Outage
    root: Path
    looks: int = 0
    told: list[str] = field(default_factory=list)
    seen: dict[str, str] = field(default_factory=dict)

    def wait(self, _seconds: float) -> bool:
        self.looks += 1
        if self.looks == 1:
            self.seen = world(self.root)
        assert world(self.root) == self.seen, "nothing is commanded while the log cannot be written"
        if self.looks == 2:
            self.outage.end()
        return False

    def tell(self, line: str) -> None:
        self.told.append(line)
        self.looks = 0


def kinds(saga: Saga, operation: str) -> list[tuple[str, str, int]]:
    """Every event of the log as it is in the database, in order."""
    log: Any = saga._log
    with log._engine.connect() as connection:
        rows = connection.exec_driver_sql(
            f"SELECT step, kind, attempt FROM step_event WHERE operation = '{operation}' ORDER BY seq"
        )
        return [(str(step), str(kind), int(attempt)) for step, kind, attempt in rows]


FORWARD = [(step.name, kind, 1) for step in STEPS for kind in ("started", "succeeded")]
BACKWARD = [(step.name, kind, 1) for step in reversed(STEPS) for kind in ("undo-started", "undone")]


def went_through(case: FileCase, outage: Outage, *, after: bool) -> Watch:
    """An operation went forward and back over a database that went away around each of its events."""
    watch = Watch(outage, case.root)
    with engine_on(outage.url) as engine, engine_on(outage.url) as undisturbed:
        plain = Saga(SqlStepLog(undisturbed), now, VERSION)
        saga = Saga(Sabotaged(engine, outage, after=after), now, VERSION)
        patient = saga.patient(StorePatience(wait=watch.wait, tell=watch.tell))
        operation = order(plain, case).id
        undisturbed.dispose()  # an open file keeps a file system from being made read-only
        worker = begin(patient, case, operation)
        worker.forward()
        case.check_done()
        assert patient.settle(worker.fence).state is OperationState.SUCCEEDED
        assert kinds(plain, operation) == FORWARD, "no event lost, none doubled, no attempt used up"
        undisturbed.dispose()
        worker = begin(patient, case, operation)
        worker.backward()
        case.check_undone()
        assert patient.settle(worker.fence).state is OperationState.ROLLED_BACK
        assert kinds(plain, operation) == FORWARD + BACKWARD
        assert plain.leases() == ()
    return watch


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [False, True], ids=["before-commit", "after-commit"])
def test_a_server_that_goes_away_around_every_commit(case: FileCase, server_outage: Outage, after: bool) -> None:
    watch = went_through(case, server_outage, after=after)
    outages = len(FORWARD + BACKWARD)
    # After the very last event nobody looked any more before the server was needed for the next phase.
    assert outages - 1 <= sum("waiting" in line for line in watch.told) <= outages + 1
    assert sum("is back" in line for line in watch.told) == sum("waiting" in line for line in watch.told)
    assert all("Way out:" in line for line in watch.told if "waiting" in line)


def test_a_commit_whose_answer_is_lost_is_made_once(
    case: FileCase, postgres: PostgresServer, migrated_postgres: str
) -> None:
    database = postgres.new_database(template=migrated_postgres)
    with tempfile.TemporaryDirectory(prefix="levier-silent-") as folder:
        silent = SilentCommit(postgres, database, Path(folder))
        watch = Watch(silent, case.root)
        try:
            watch = went_through(case, silent, after=False)
        finally:
            silent.remove()
        assert silent.lost == len(FORWARD + BACKWARD)
        assert sum("waiting" in line for line in watch.told) == silent.lost


# --- SQLite ----------------------------------------------------------------------------------------------------------


@pytest.mark.root
@pytest.mark.parametrize("after", [False, True], ids=["before-commit", "after-commit"])
def test_a_disk_that_is_full_or_read_only_around_every_commit(case: FileCase, disk_outage: Outage, after: bool) -> None:
    watch = went_through(case, disk_outage, after=after)
    assert any("waiting" in line for line in watch.told)
