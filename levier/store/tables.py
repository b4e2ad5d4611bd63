"""All tables of this package but the boot service's. Changes need a migration (levier/store/migrations)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from levier.store.base import Base, UtcDateTime

_NAME = String(255)
_KEY = String(64)


class OperationRow(Base):
    """What was ordered (immutable), and who works on it (generation, last_seq and the worker's columns change)."""

    __tablename__ = "operation"

    id: Mapped[str] = mapped_column(_NAME, primary_key=True)
    key: Mapped[str | None] = mapped_column(_NAME, unique=True)
    kind: Mapped[str] = mapped_column(_NAME)
    targets: Mapped[list[str]] = mapped_column(JSON)
    parameters: Mapped[dict[str, Any]] = mapped_column(JSON)
    requested_by: Mapped[str] = mapped_column(_NAME)
    code_version: Mapped[str] = mapped_column(_NAME)
    created: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    generation: Mapped[int]
    """Of the newest Fence; 0: nobody has begun."""
    last_seq: Mapped[int]
    """Number of the last event. Its update is what serialises all writers of an operation."""
    worker: Mapped[str] = mapped_column(_NAME)
    expires: Mapped[datetime | None] = mapped_column(UtcDateTime)


class PlannedStepRow(Base):
    """One step of an operation's plan."""

    __tablename__ = "planned_step"
    __table_args__ = (
        UniqueConstraint("operation", "step", "target"),
        Index("ix_planned_step_operation_target", "operation", "target"),
    )

    operation: Mapped[str] = mapped_column(_NAME, ForeignKey("operation.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    step: Mapped[str] = mapped_column(_NAME)
    target: Mapped[str] = mapped_column(_NAME)
    wave: Mapped[int]


class OperationEventRow(Base):
    """Append-only: a trigger refuses every update."""

    __tablename__ = "operation_event"
    __table_args__ = (Index("ix_operation_event_operation_key", "operation", "key", unique=True),)

    operation: Mapped[str] = mapped_column(_NAME, ForeignKey("operation.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(_NAME)
    state: Mapped[str | None] = mapped_column(_NAME)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    detail: Mapped[dict[str, Any]] = mapped_column(JSON)
    worker: Mapped[str] = mapped_column(_NAME)
    key: Mapped[str | None] = mapped_column(_KEY)
    """What the write is known by when it is repeated."""


class StepEventRow(Base):
    """Append-only: a trigger refuses every update."""

    __tablename__ = "step_event"
    __table_args__ = (
        Index("ix_step_event_operation_target", "operation", "target"),
        Index("ix_step_event_operation_key", "operation", "key", unique=True),
    )

    operation: Mapped[str] = mapped_column(_NAME, ForeignKey("operation.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    step: Mapped[str] = mapped_column(_NAME)
    target: Mapped[str] = mapped_column(_NAME)
    kind: Mapped[str] = mapped_column(_NAME)
    attempt: Mapped[int]
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
    worker: Mapped[str] = mapped_column(_NAME)
    key: Mapped[str | None] = mapped_column(_KEY)
    """What the write is known by when it is repeated."""


class LeaseRow(Base):
    """A node's lock. The row outlives its holder, because the generation must only ever grow."""

    __tablename__ = "lease"

    node: Mapped[str] = mapped_column(_NAME, primary_key=True)
    operation: Mapped[str | None] = mapped_column(_NAME, ForeignKey("operation.id"), index=True)
    """The holder; null: free."""
    generation: Mapped[int]
    """Grows with each holder and each take-over."""
    fence: Mapped[int]
    """The holder's operation generation."""
    worker: Mapped[str] = mapped_column(_NAME)
    acquired: Mapped[datetime | None] = mapped_column(UtcDateTime)
    expires: Mapped[datetime | None] = mapped_column(UtcDateTime)


class NodeRow(Base):
    """A node and what is known about it; who holds it is in its lease."""

    __tablename__ = "node"

    name: Mapped[str] = mapped_column(_NAME, primary_key=True)
    zone: Mapped[str] = mapped_column(_NAME)
    rack: Mapped[str] = mapped_column(_NAME)
    state: Mapped[str] = mapped_column(_NAME)
    maintenance: Mapped[bool]
    locked: Mapped[bool]
    fault: Mapped[str] = mapped_column(Text)
    address: Mapped[str] = mapped_column(_NAME)
    os: Mapped[str] = mapped_column(_NAME)
    kernel: Mapped[str] = mapped_column(_NAME)
    serial: Mapped[str] = mapped_column(_NAME)
    revision: Mapped[int | None] = mapped_column(ForeignKey("revision.number"))
    inventory: Mapped[dict[str, Any]] = mapped_column(JSON)
    facts: Mapped[dict[str, Any]] = mapped_column(JSON)
    updated: Mapped[datetime] = mapped_column(UtcDateTime)


class RevisionRow(Base):
    """A configuration revision; a trigger refuses every update and deletion."""

    __tablename__ = "revision"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    digest: Mapped[str] = mapped_column(String(64), index=True)
    content: Mapped[str] = mapped_column(Text)
    """Canonical JSON, as text: the digest is over these very bytes."""
    source: Mapped[str] = mapped_column(Text)
    who: Mapped[str] = mapped_column(_NAME)
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class ConfigurationRow(Base):
    """What an installation wrote of a component to a host in a revision, secrets as references."""

    __tablename__ = "configuration"

    revision: Mapped[int] = mapped_column(ForeignKey("revision.number"), primary_key=True)
    host: Mapped[str] = mapped_column(_NAME, primary_key=True)
    component: Mapped[str] = mapped_column(_NAME, primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    """SHA-256 of `content`."""
    content: Mapped[str] = mapped_column(Text)
    """JSON: the component with its files and commands."""
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class AddressRow(Base):
    """An address of a network, taken by a node."""

    __tablename__ = "address"
    __table_args__ = (UniqueConstraint("network", "node"),)

    network: Mapped[str] = mapped_column(_NAME, primary_key=True)
    address: Mapped[str] = mapped_column(_NAME, primary_key=True)
    node: Mapped[str] = mapped_column(_NAME)
    operation: Mapped[str] = mapped_column(_NAME)
    """The operation that took it."""
    at: Mapped[datetime] = mapped_column(UtcDateTime)
