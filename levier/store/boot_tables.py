"""Tables of the boot service. All secrets are stored as SHA-256 digests, the seed sealed."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Integer, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from levier.store.base import Base, UtcDateTime


def _entry_key(*, primary_key: bool = False) -> Mapped[str]:
    """A reference to the entry; whatever hangs on it goes with it."""
    key = ForeignKey("boot_entry.id", ondelete="CASCADE")
    return mapped_column(String(32), key, primary_key=primary_key, index=not primary_key)


class BootEntryRow(Base):
    """A node that may boot from the network now, and the operation that asked for it."""

    __tablename__ = "boot_entry"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    node: Mapped[str] = mapped_column(String(255), unique=True)
    mac: Mapped[str] = mapped_column(String(17), unique=True)
    address: Mapped[str] = mapped_column(String(45), unique=True)
    hostname: Mapped[str] = mapped_column(String(255))
    operation: Mapped[str] = mapped_column(String(255))
    purpose: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    script_fetched_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    script_fetches: Mapped[int] = mapped_column(Integer, default=0)
    claimed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    claims: Mapped[int] = mapped_column(Integer, default=0)
    last_seen_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    inventory: Mapped[str | None] = mapped_column(Text)
    """The claim's inventory as JSON of levier.domain.inventory.Inventory."""


class BootTokenRow(Base):
    """A one-time token of a script; ended by its use and by the next fetch of the script."""

    __tablename__ = "boot_token"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    entry_id: Mapped[str] = _entry_key()
    minted_at: Mapped[datetime] = mapped_column(UtcDateTime)
    used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    replaced_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class BootSessionRow(Base):
    """The agent now running on the machine; a later claim replaces it."""

    __tablename__ = "boot_session"

    entry_id: Mapped[str] = _entry_key(primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)


class BootInstructionRow(Base):
    """What the agent is to do now."""

    __tablename__ = "boot_instruction"

    entry_id: Mapped[str] = _entry_key(primary_key=True)
    version: Mapped[int] = mapped_column(Integer)
    action: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text)
    disk: Mapped[str] = mapped_column(String(128))
    image: Mapped[str | None] = mapped_column(Text)
    """JSON of levier.domain.netboot.ImageRef."""
    image_sha256: Mapped[str] = mapped_column(String(64))
    seed_sealed: Mapped[bytes | None] = mapped_column(LargeBinary)
    seed_digest: Mapped[str] = mapped_column(String(64))
    seed_sent_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    instructed_at: Mapped[datetime] = mapped_column(UtcDateTime)
    handed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When an agent was first told; a report that comes before is on the instruction before."""
    taken_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    taken_by_claim: Mapped[int] = mapped_column(Integer, default=0)


class BootReportRow(Base):
    """One report of an agent; only ever added, and gone with its entry."""

    __tablename__ = "boot_report"

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    entry_id: Mapped[str] = _entry_key()
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    instruction: Mapped[int] = mapped_column(Integer)
    stage: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16))
    detail: Mapped[str] = mapped_column(Text)
    bytes_done: Mapped[int] = mapped_column(BigInteger)
