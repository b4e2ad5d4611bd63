"""The rendered configuration of hosts is kept with its revision.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from levier.store.base import UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """The schema has what this revision adds."""
    op.create_table(
        "configuration",
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["revision"], ["revision.number"], name=op.f("fk_configuration_revision_revision")),
        sa.PrimaryKeyConstraint("revision", "host", name=op.f("pk_configuration")),
    )


def downgrade() -> None:
    """The schema is as it was before this revision."""
    op.drop_table("configuration")
