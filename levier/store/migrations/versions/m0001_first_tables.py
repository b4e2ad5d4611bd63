"""Operations, their log and leases; nodes, configuration revisions, addresses.

Revision ID: 0001
Revises: nothing
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from levier.store.base import UtcDateTime
from levier.store.migrations.triggers import drop_refusal, refuse

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

APPEND_ONLY = ("planned_step", "operation_event", "step_event", "revision")


def upgrade() -> None:
    """The first tables stand; the log's and the revisions' rows cannot be changed."""
    _create_address()
    _create_operation()
    _create_revision()
    _create_lease()
    _create_node()
    _create_operation_event()
    _create_planned_step()
    _create_step_event()
    for table in APPEND_ONLY:
        refuse(table, "UPDATE")
    refuse("revision", "DELETE")


def downgrade() -> None:
    """No table is left."""
    drop_refusal("revision", "DELETE")
    for table in APPEND_ONLY:
        drop_refusal(table, "UPDATE")
    for table in ("step_event", "planned_step", "operation_event", "node", "lease", "revision", "operation", "address"):
        op.drop_table(table)


def _create_address() -> None:
    op.create_table(
        "address",
        sa.Column("network", sa.String(length=255), nullable=False),
        sa.Column("address", sa.String(length=255), nullable=False),
        sa.Column("node", sa.String(length=255), nullable=False),
        sa.Column("operation", sa.String(length=255), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("network", "address", name=op.f("pk_address")),
        sa.UniqueConstraint("network", "node", name=op.f("uq_address_network_node")),
    )


def _create_operation() -> None:
    op.create_table(
        "operation",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=True),
        sa.Column("kind", sa.String(length=255), nullable=False),
        sa.Column("targets", sa.JSON(), nullable=False),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("requested_by", sa.String(length=255), nullable=False),
        sa.Column("code_version", sa.String(length=255), nullable=False),
        sa.Column("created", UtcDateTime(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("last_seq", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(length=255), nullable=False),
        sa.Column("expires", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operation")),
        sa.UniqueConstraint("key", name=op.f("uq_operation_key")),
    )
    op.create_index(op.f("ix_operation_created"), "operation", ["created"], unique=False)


def _create_revision() -> None:
    op.create_table(
        "revision",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("who", sa.String(length=255), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_revision")),
    )
    op.create_index(op.f("ix_revision_digest"), "revision", ["digest"], unique=False)


def _create_lease() -> None:
    op.create_table(
        "lease",
        sa.Column("node", sa.String(length=255), nullable=False),
        sa.Column("operation", sa.String(length=255), nullable=True),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(length=255), nullable=False),
        sa.Column("acquired", UtcDateTime(), nullable=True),
        sa.Column("expires", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["operation"], ["operation.id"], name=op.f("fk_lease_operation_operation")),
        sa.PrimaryKeyConstraint("node", name=op.f("pk_lease")),
    )
    op.create_index(op.f("ix_lease_operation"), "lease", ["operation"], unique=False)


def _create_node() -> None:
    op.create_table(
        "node",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("zone", sa.String(length=255), nullable=False),
        sa.Column("rack", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=255), nullable=False),
        sa.Column("maintenance", sa.Boolean(), nullable=False),
        sa.Column("locked", sa.Boolean(), nullable=False),
        sa.Column("fault", sa.Text(), nullable=False),
        sa.Column("address", sa.String(length=255), nullable=False),
        sa.Column("os", sa.String(length=255), nullable=False),
        sa.Column("kernel", sa.String(length=255), nullable=False),
        sa.Column("serial", sa.String(length=255), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=True),
        sa.Column("inventory", sa.JSON(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("updated", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["revision"], ["revision.number"], name=op.f("fk_node_revision_revision")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_node")),
    )


def _create_operation_event() -> None:
    op.create_table(
        "operation_event",
        sa.Column("operation", sa.String(length=255), nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=255), nullable=True),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("worker", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(["operation"], ["operation.id"], name=op.f("fk_operation_event_operation_operation")),
        sa.PrimaryKeyConstraint("operation", "seq", name=op.f("pk_operation_event")),
    )


def _create_planned_step() -> None:
    op.create_table(
        "planned_step",
        sa.Column("operation", sa.String(length=255), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("step", sa.String(length=255), nullable=False),
        sa.Column("target", sa.String(length=255), nullable=False),
        sa.Column("wave", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["operation"], ["operation.id"], name=op.f("fk_planned_step_operation_operation")),
        sa.PrimaryKeyConstraint("operation", "position", name=op.f("pk_planned_step")),
        sa.UniqueConstraint("operation", "step", "target", name=op.f("uq_planned_step_operation_step_target")),
    )
    op.create_index("ix_planned_step_operation_target", "planned_step", ["operation", "target"], unique=False)


def _create_step_event() -> None:
    op.create_table(
        "step_event",
        sa.Column("operation", sa.String(length=255), nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("step", sa.String(length=255), nullable=False),
        sa.Column("target", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=255), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("worker", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(["operation"], ["operation.id"], name=op.f("fk_step_event_operation_operation")),
        sa.PrimaryKeyConstraint("operation", "seq", name=op.f("pk_step_event")),
    )
    op.create_index("ix_step_event_operation_target", "step_event", ["operation", "target"], unique=False)
