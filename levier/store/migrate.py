"""Schema migrations, from the first table on. One process at a time; the others wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from levier.domain.errors import IncompatibleVersion
from levier.store.base import domain_errors

_LOCK = 0x1E71E5
"""Any constant: PostgreSQL's advisory locks are named by number."""


def upgrade(engine: Engine, revision: str = "head") -> None:
    """The schema is at `revision`. Safe to repeat, and to run in several processes at once.

    All or nothing. Raises IncompatibleVersion when a newer Levier made the schema; StoreUnavailable.
    """
    with _migrating(engine) as config:
        command.upgrade(config, revision)


def downgrade(engine: Engine, revision: str) -> None:
    """The schema is as it was at `revision` (`base`: no tables); what later ones added is gone, with its data."""
    with _migrating(engine) as config:
        command.downgrade(config, revision)


def current(engine: Engine) -> str | None:
    """The schema's revision; None when nothing was migrated yet."""
    with domain_errors(), engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


@contextmanager
def _migrating(engine: Engine) -> Iterator[Config]:
    """One transaction that excludes every other migration; both databases can undo DDL."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    # On SQLite the transaction begins IMMEDIATE (levier.store.base) and is thereby the only writer.
    with domain_errors(), engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        _refuse_newer(connection, config)
        config.attributes["connection"] = connection
        yield config


def _refuse_newer(connection: Connection, config: Config) -> None:
    present = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if present is not None and present not in known:
        raise IncompatibleVersion(
            f"the database has schema {present}, which this version of Levier does not know",
            hint="use the Levier that made it, or restore the backup from before its upgrade",
        )
