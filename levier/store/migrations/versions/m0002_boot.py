"""Boot entries, their tokens, sessions, instructions and reports.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from levier.store.base import UtcDateTime
from levier.store.migrations.triggers import drop_refusal, refuse

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """The schema has what this revision adds."""
    _entries()
    _tokens()
    _sessions()
    _instructions()
    _reports()
    refuse("boot_report", "UPDATE")


def downgrade() -> None:
    """The schema is as it was before this revision. Standing boot entries are lost: publish them again."""
    drop_refusal("boot_report", "UPDATE")
    for table in ("boot_report", "boot_instruction", "boot_session", "boot_token", "boot_entry"):
        op.drop_table(table)


def _entry_key(table: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_entry_id_boot_entry")
    return sa.ForeignKeyConstraint(["entry_id"], ["boot_entry.id"], name=name, ondelete="CASCADE")


def _entries() -> None:
    op.create_table(
        "boot_entry",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("node", sa.String(255), nullable=False),
        sa.Column("mac", sa.String(17), nullable=False),
        sa.Column("address", sa.String(45), nullable=False),
        sa.Column("hostname", sa.String(255), nullable=False),
        sa.Column("operation", sa.String(255), nullable=False),
        sa.Column("purpose", sa.String(16), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("script_fetched_at", UtcDateTime(), nullable=True),
        sa.Column("script_fetches", sa.Integer(), nullable=False),
        sa.Column("claimed_at", UtcDateTime(), nullable=True),
        sa.Column("claims", sa.Integer(), nullable=False),
        sa.Column("last_seen_at", UtcDateTime(), nullable=True),
        sa.Column("inventory", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_boot_entry")),
        sa.UniqueConstraint("node", name=op.f("uq_boot_entry_node")),
        sa.UniqueConstraint("mac", name=op.f("uq_boot_entry_mac")),
        sa.UniqueConstraint("address", name=op.f("uq_boot_entry_address")),
    )


def _tokens() -> None:
    op.create_table(
        "boot_token",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("entry_id", sa.String(32), nullable=False),
        sa.Column("minted_at", UtcDateTime(), nullable=False),
        sa.Column("used_at", UtcDateTime(), nullable=True),
        sa.Column("replaced_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_boot_token")),
        _entry_key("boot_token"),
    )
    op.create_index(op.f("ix_boot_token_entry_id"), "boot_token", ["entry_id"])


def _sessions() -> None:
    op.create_table(
        "boot_session",
        sa.Column("entry_id", sa.String(32), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("entry_id", name=op.f("pk_boot_session")),
        sa.UniqueConstraint("digest", name=op.f("uq_boot_session_digest")),
        _entry_key("boot_session"),
    )


def _instructions() -> None:
    op.create_table(
        "boot_instruction",
        sa.Column("entry_id", sa.String(32), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("disk", sa.String(128), nullable=False),
        sa.Column("image", sa.Text(), nullable=True),
        sa.Column("image_sha256", sa.String(64), nullable=False),
        sa.Column("seed_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("seed_digest", sa.String(64), nullable=False),
        sa.Column("seed_sent_at", UtcDateTime(), nullable=True),
        sa.Column("instructed_at", UtcDateTime(), nullable=False),
        sa.Column("handed_at", UtcDateTime(), nullable=True),
        sa.Column("taken_at", UtcDateTime(), nullable=True),
        sa.Column("taken_by_claim", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("entry_id", name=op.f("pk_boot_instruction")),
        _entry_key("boot_instruction"),
    )


def _reports() -> None:
    op.create_table(
        "boot_report",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("entry_id", sa.String(32), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("instruction", sa.Integer(), nullable=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("bytes_done", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_boot_report")),
        _entry_key("boot_report"),
    )
    op.create_index(op.f("ix_boot_report_entry_id"), "boot_report", ["entry_id"])
