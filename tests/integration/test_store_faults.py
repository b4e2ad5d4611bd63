"""A database that is away, read-only or full is one domain error, and the log goes on where it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from levier.domain.errors import Conflict, StoreUnavailable
from levier.domain.operation import OperationState, StepState
from levier.saga.engine import Saga
from levier.store.base import open_engine
from levier.store.step_log import SqlStepLog
from tests.integration.file_saga import FileCase, prepare
from tests.integration.saga_faults import VERSION, begin, make_saga, now, order


@pytest.fixture
def case(tmp_path: Path) -> FileCase:
    root = tmp_path / "world"
    root.mkdir()
    prepare(root)
    return FileCase(root)


def test_a_database_that_cannot_be_reached_is_named() -> None:
    for url in ("postgresql+psycopg://levier@/x?host=/nonexistent", "sqlite:////nonexistent/levier.db"):
        with pytest.raises(StoreUnavailable):
            make_saga(url).statuses()


def test_a_log_that_cannot_be_written_after_the_effect_leaves_the_outcome_open(
    tmp_path: Path, migrated_sqlite: Path, case: FileCase
) -> None:
    """The write of `succeeded` fails as on a full disk; the next attempt looks, and does not act again."""
    path = tmp_path / "levier.db"
    path.write_bytes(migrated_sqlite.read_bytes())
    engine = open_engine(f"sqlite:///{path}")
    saga = Saga(SqlStepLog(engine), now, VERSION)
    worker = begin(saga, case, order(saga, case).id)
    worker.forward(up_to="make-home")
    full = FullDisk(engine, case)
    with pytest.raises(StoreUnavailable) as caught:
        saga.run(worker.fence, case.steps[3], worker.context(), target=case.target)
    assert "full" in caught.value.message
    assert "make room" in caught.value.hint
    full.end()
    assert (case.root / "images" / case.target).exists()
    assert worker.status().step("write-image", case.target).state is StepState.RUNNING
    worker.forward()
    case.check_done()
    assert worker.status().step("write-image", case.target).attempts == 2


class FullDisk:
    """From the image's appearance on, the database file may not grow (max_page_count), as on a full file system."""

    def __init__(self, engine: Engine, case: FileCase) -> None:
        self._engine = engine
        self._image = case.root / "images" / case.target
        event.listen(engine, "begin", self._limit)

    def _limit(self, connection: object) -> None:
        if self._image.exists():
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()  # type: ignore[attr-defined]
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")  # type: ignore[attr-defined]
            connection.exec_driver_sql("CREATE TABLE filler AS SELECT zeroblob(100000) AS z")  # type: ignore[attr-defined]

    def end(self) -> None:
        event.remove(self._engine, "begin", self._limit)
        self._engine.dispose()


def test_a_read_only_sqlite_is_named(tmp_path: Path, migrated_sqlite: Path, case: FileCase) -> None:
    path = tmp_path / "levier.db"
    path.write_bytes(migrated_sqlite.read_bytes())
    saga = make_saga(f"sqlite:///{path}")
    operation = order(saga, case).id
    reading = make_saga(f"sqlite:///file:{path}?mode=ro&uri=true")
    assert reading.status(operation).state is OperationState.PLANNED
    with pytest.raises(StoreUnavailable) as caught:
        reading.begin(operation, worker="w")
    assert "writable" in caught.value.hint


def test_a_second_row_where_one_may_be_is_a_conflict(engine: Engine, saga: Saga, case: FileCase) -> None:
    operation = order(saga, case)
    with pytest.raises(Conflict, match=operation.id):
        saga._log.create(replace(operation, kind="another"))
