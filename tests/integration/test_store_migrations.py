"""The schema that migrations make is the one the models describe, on both databases, and can be taken back."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, text

import levier.store
from levier.domain.errors import IncompatibleVersion, StoreUnavailable
from levier.store import migrate
from levier.store.base import Base, open_engine, writing
from levier.store.nodes import NodeStore
from levier.store.schema_version import ensure_schema, newest


def differences(engine: Engine) -> list[object]:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, Base.metadata))


def test_migrations_make_what_the_models_say(empty_database_url: str) -> None:
    engine = open_engine(empty_database_url)
    assert differences(engine), "an empty database must differ, or the comparison sees nothing"
    migrate.upgrade(engine)
    assert differences(engine) == []
    engine.dispose()


def test_a_current_schema_is_known_without_alembic_and_any_other_is_migrated(empty_database_url: str) -> None:
    engine = open_engine(empty_database_url)
    assert newest() == ScriptDirectory(str(Path(migrate.__file__).parent / "migrations")).get_current_head()
    ensure_schema(engine)
    assert migrate.current(engine) == newest()
    assert differences(engine) == []
    migrate.downgrade(engine, "0001")
    ensure_schema(engine)
    assert migrate.current(engine) == newest()
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(IncompatibleVersion, match="9999"):
        ensure_schema(engine)
    engine.dispose()


def test_every_step_goes_down_and_up_again(empty_database_url: str) -> None:
    engine = open_engine(empty_database_url)
    migrate.upgrade(engine)
    head = migrate.current(engine)
    assert head is not None
    migrate.downgrade(engine, "base")
    assert migrate.current(engine) is None
    assert set(inspect(engine).get_table_names()) <= {"alembic_version"}
    script = ScriptDirectory(str(levier.store.__path__[0]) + "/migrations")
    for revision in reversed([r.revision for r in script.walk_revisions()]):
        migrate.upgrade(engine, revision)
        assert migrate.current(engine) == revision
    assert differences(engine) == []
    engine.dispose()


def _upgrade(url: str) -> None:
    migrate.upgrade(open_engine(url))


def test_processes_that_migrate_at_once_do_not_collide(empty_database_url: str) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_upgrade, args=(empty_database_url,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    engine = open_engine(empty_database_url)
    assert differences(engine) == []
    engine.dispose()


def test_a_schema_of_a_newer_version_is_refused(engine: Engine) -> None:
    with writing(engine) as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(IncompatibleVersion, match="9999"):
        migrate.upgrade(engine)
    assert migrate.current(engine) == "9999"


def test_a_missing_schema_is_named(empty_database_url: str) -> None:
    engine = open_engine(empty_database_url)
    with pytest.raises(StoreUnavailable) as caught:
        NodeStore(engine).list()
    assert "levier up" in caught.value.hint
    engine.dispose()
