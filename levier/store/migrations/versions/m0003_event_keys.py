"""Events have a key, so that a commit whose answer was lost can be repeated without doubling the event.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TABLES = ("operation_event", "step_event")


def upgrade() -> None:
    """The schema has what this revision adds. Events from before have no key."""
    for table in _TABLES:
        op.add_column(table, sa.Column("key", sa.String(64), nullable=True))
        op.create_index(op.f(f"ix_{table}_operation_key"), table, ["operation", "key"], unique=True)


def downgrade() -> None:
    """The schema is as it was before this revision."""
    for table in _TABLES:
        op.drop_index(op.f(f"ix_{table}_operation_key"), table)
        op.drop_column(table, "key")
