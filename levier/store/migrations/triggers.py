"""Triggers that make a table append-only or immutable, for migrations."""

from __future__ import annotations

from typing import Literal

from alembic import op

Change = Literal["UPDATE", "DELETE"]


def refuse(table: str, change: Change) -> None:
    """Every `change` of a row of `table` fails, whoever tries it."""
    name = _name(table, change)
    message = f"{table} is append-only: no {change}"
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"CREATE TRIGGER {name} BEFORE {change} ON {table} BEGIN SELECT RAISE(ABORT, '{message}'); END")
        return
    op.execute(
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '{message}'; END $$"
    )
    op.execute(f"CREATE TRIGGER {name} BEFORE {change} ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()")


def drop_refusal(table: str, change: Change) -> None:
    """`table` can be changed again. To be called before the table is dropped."""
    name = _name(table, change)
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"DROP TRIGGER {name}")
        return
    op.execute(f"DROP TRIGGER {name} ON {table}")
    op.execute(f"DROP FUNCTION {name}()")


def _name(table: str, change: Change) -> str:
    return f"refuse_{change.lower()}_{table}"
