"""Alembic's entry: migrations run on the connection that levier.store.migrate hands over."""

from __future__ import annotations

import importlib
import pkgutil

from alembic import context

import levier.store
from levier.store.base import Base

# Every module of the store may declare tables; autogenerate must see them all.
for _module in pkgutil.iter_modules(levier.store.__path__):
    if not _module.ispkg:
        importlib.import_module(f"levier.store.{_module.name}")

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    compare_type=True,
    # SQLite cannot alter a column in place: Alembic copies the table.
    render_as_batch=True,
    # One transaction for all steps: an interrupted upgrade leaves the old schema, whole.
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
