"""What an installation wrote is kept by component; what was kept because somebody looked at it proves nothing.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from levier.store.base import UtcDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """The schema has what this revision adds."""
    op.drop_table("configuration")
    _create("component")


def downgrade() -> None:
    """The schema is as it was before this revision."""
    op.drop_table("configuration")
    _create()


def _create(*keys: str) -> None:
    op.create_table(
        "configuration",
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        *(sa.Column(key, sa.String(255), nullable=False) for key in keys),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["revision"], ["revision.number"], name=op.f("fk_configuration_revision_revision")),
        sa.PrimaryKeyConstraint("revision", "host", *keys, name=op.f("pk_configuration")),
    )
