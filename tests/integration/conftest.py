"""Databases for the integration tests: everything that stores runs on SQLite and on PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from levier.saga.engine import Saga
from levier.saga.log import StepLog
from levier.store import migrate
from levier.store.base import open_engine
from levier.store.step_log import SqlStepLog
from tests.integration.postgres_server import PostgresServer
from tests.integration.saga_faults import VERSION, now
from tests.simulation.memory_log import MemoryLog


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server for the whole session."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def migrated_postgres(postgres: PostgresServer) -> str:
    """A database with the newest schema, to copy."""
    name = postgres.new_database()
    _migrate(postgres.url(name))
    return name


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the newest schema, to copy."""
    path = tmp_path_factory.mktemp("sqlite") / "migrated.db"
    _migrate(f"sqlite:///{path}")
    return path


def _migrate(url: str) -> None:
    engine = open_engine(url)
    migrate.upgrade(engine)
    engine.dispose()


def _new_database(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new database with the newest schema."""
    if kind == "sqlite":
        path = tmp_path / "levier.db"
        shutil.copy(request.getfixturevalue("migrated_sqlite"), path)
        return f"sqlite:///{path}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.url(server.new_database(template=request.getfixturevalue("migrated_postgres")))


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database of this test's own, with the newest schema."""
    return _new_database(request.param, request, tmp_path)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StepLog]:
    """A step log of each kind there is."""
    if request.param == "memory":
        yield MemoryLog()
        return
    engine = open_engine(_new_database(request.param, request, tmp_path))
    yield SqlStepLog(engine)
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database of this test's own, without any table."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/levier.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.url(server.new_database())


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on this test's database."""
    engine = open_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def saga(engine: Engine) -> Saga:
    """A saga on this test's database."""
    return Saga(SqlStepLog(engine), now, VERSION)
