"""Whether the database has this version's schema: asked by every process that starts, so without Alembic."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy import Engine, inspect, text

from levier.store.base import domain_errors

_SCRIPT = re.compile(r"m(\d{4})_\w+\.py")


def newest() -> str:
    """The revision of this version's newest migration, by the names of the scripts."""
    names = (path.name for path in (Path(__file__).parent / "migrations" / "versions").iterdir())
    return max(match[1] for name in names if (match := _SCRIPT.fullmatch(name)))


def ensure_schema(engine: Engine) -> None:
    """The schema is this version's. Safe to repeat, in several processes at once.

    Raises IncompatibleVersion when a newer Levier made it; StoreUnavailable.
    """
    with domain_errors(), engine.connect() as connection:
        known = inspect(connection).has_table("alembic_version")
        present = connection.scalar(text("SELECT version_num FROM alembic_version")) if known else None
    if present != newest():
        # A third of a second of processor time, which a flow process that takes over a dead one's work has not.
        from levier.store.migrate import upgrade

        upgrade(engine)
