"""The agent's side of boot entries: tokens, sessions, reports. Callers pass SHA-256 digests, never a secret."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Engine, delete, select, update
from sqlalchemy.orm import Session

from levier.domain.bootentry import Instruction
from levier.domain.inventory import Inventory
from levier.domain.netboot import AgentAction, AgentReport, AgentStage
from levier.store.base import reading, writing
from levier.store.boot import instruction_of
from levier.store.boot_tables import BootEntryRow, BootInstructionRow, BootReportRow, BootSessionRow, BootTokenRow

_KEPT_TOKENS = 16
"""Ended tokens kept per entry, to tell "used" and "outdated" from "unknown"; a looping machine mints without end."""

_STAGES = {
    AgentAction.WRITE: (AgentStage.WRITE, AgentStage.VERIFY, AgentStage.SEED),
    AgentAction.REBOOT: (AgentStage.REBOOT,),
}


class ClaimOutcome(StrEnum):
    """What became of a claim; all but ACCEPTED are answered 403."""

    ACCEPTED = "accepted"
    UNKNOWN = "the token is unknown, or its boot entry was withdrawn"
    USED = "the token was used already"
    OUTDATED = "the token is outdated: the boot script was fetched again after it"


@dataclass(frozen=True, slots=True)
class SessionState:
    """A valid session: whose it is, and what its agent is to do now."""

    entry_id: str
    node: str
    instruction: Instruction


class BootSessionStore:
    """Tokens, sessions and reports in the database. Every call is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def has_entry(self, entry_id: str) -> bool:
        """Whether the boot entry stands."""
        with reading(self._engine) as session:
            return session.scalar(select(BootEntryRow.id).where(BootEntryRow.id == entry_id)) is not None

    def mint(self, *, mac: str, token_digest: str, now: datetime) -> str | None:
        """The id of the entry of `mac`, whose only valid token is now the given one; None when no entry stands.

        Safe to repeat with the same token, as one does when the answer to the commit was lost.
        """
        with writing(self._engine) as session:
            entry = session.scalar(select(BootEntryRow).where(BootEntryRow.mac == mac).with_for_update())
            if entry is None or session.get(BootTokenRow, token_digest) is not None:
                return None if entry is None else entry.id
            valid = (BootTokenRow.entry_id == entry.id, BootTokenRow.replaced_at.is_(None))
            session.execute(update(BootTokenRow).where(*valid).values(replaced_at=now))
            _forget_old_tokens(session, entry.id)
            session.add(BootTokenRow(digest=token_digest, entry_id=entry.id, minted_at=now))
            entry.script_fetched_at = now
            entry.script_fetches += 1
            return entry.id

    def claim(
        self, *, token_digest: str, session_digest: str, inventory: Inventory, now: datetime
    ) -> tuple[ClaimOutcome, str]:
        """ACCEPTED and the node: the token is used up, the session is the entry's only one. Otherwise why not.

        Safe to repeat with the same session, as one does when the answer to the commit was lost.
        """
        with writing(self._engine) as session:
            entry_id = session.scalar(select(BootTokenRow.entry_id).where(BootTokenRow.digest == token_digest))
            entry = None if entry_id is None else session.get(BootEntryRow, entry_id, with_for_update=True)
            # Read again under the entry's lock: of two claims with one token, the second must see the first.
            token = session.get(BootTokenRow, token_digest, populate_existing=True)
            if entry is None or token is None or not hmac.compare_digest(token.digest, token_digest):
                return ClaimOutcome.UNKNOWN, ""
            if token.used_at is not None and _entry_of(session, session_digest) is entry:
                return ClaimOutcome.ACCEPTED, entry.node
            if token.used_at is not None:
                return ClaimOutcome.USED, entry.node
            if token.replaced_at is not None:
                return ClaimOutcome.OUTDATED, entry.node
            token.used_at = now
            session.execute(delete(BootSessionRow).where(BootSessionRow.entry_id == entry.id))
            session.add(BootSessionRow(entry_id=entry.id, digest=session_digest, started_at=now))
            entry.claimed_at = entry.last_seen_at = now
            entry.claims += 1
            entry.inventory = inventory.model_dump_json()
            return ClaimOutcome.ACCEPTED, entry.node

    def session(self, session_digest: str, *, now: datetime, hand_out: bool = False) -> SessionState | None:
        """The session, its agent noted as alive; None when it ended. `hand_out`: the agent is told its instruction."""
        with writing(self._engine) as session:
            entry = _entry_of(session, session_digest)
            if entry is None:
                return None
            entry.last_seen_at = now
            row = session.get_one(BootInstructionRow, entry.id)
            if hand_out and row.handed_at is None:
                row.handed_at = now
            return SessionState(entry_id=entry.id, node=entry.node, instruction=instruction_of(row))

    def report(self, session_digest: str, report: AgentReport, *, now: datetime) -> str | None:
        """The node whose agent reported; the report is kept. None when the session ended.

        A report that comes before the present instruction was handed out is one on the instruction before: an agent
        whose answer got lost sends it again.
        """
        with writing(self._engine) as session:
            entry = _entry_of(session, session_digest)
            if entry is None:
                return None
            entry.last_seen_at = now
            row = session.get_one(BootInstructionRow, entry.id)
            version = row.version if row.handed_at is not None else row.version - 1
            on_present = version == row.version and report.stage in _STAGES.get(AgentAction(row.action), ())
            if on_present and row.taken_at is None:
                row.taken_at, row.taken_by_claim = now, entry.claims
            session.add(_report_row(entry.id, report, version=version, now=now))
            return entry.node

    def sealed_seed(self, session_digest: str, *, now: datetime) -> bytes | None:
        """The seed the agent was told to write, sealed, from now on fixed; None without session or such instruction."""
        with writing(self._engine) as session:
            entry = _entry_of(session, session_digest)
            if entry is None:
                return None
            entry.last_seen_at = now
            row = session.get_one(BootInstructionRow, entry.id)
            if row.seed_sealed is not None:
                row.seed_sent_at = row.seed_sent_at or now
            return row.seed_sealed


def _entry_of(session: Session, session_digest: str) -> BootEntryRow | None:
    """The locked entry whose present session has this digest. The lock comes first, then the look at the session."""
    entry_id = session.scalar(select(BootSessionRow.entry_id).where(BootSessionRow.digest == session_digest))
    entry = None if entry_id is None else session.get(BootEntryRow, entry_id, with_for_update=True)
    if entry is None:
        return None
    present = session.scalar(select(BootSessionRow.digest).where(BootSessionRow.entry_id == entry.id))
    return entry if present is not None and hmac.compare_digest(present, session_digest) else None


def _forget_old_tokens(session: Session, entry_id: str) -> None:
    newest = select(BootTokenRow.digest).where(BootTokenRow.entry_id == entry_id)
    kept = session.scalars(newest.order_by(BootTokenRow.minted_at.desc()).limit(_KEPT_TOKENS)).all()
    session.execute(
        delete(BootTokenRow).where(BootTokenRow.entry_id == entry_id, BootTokenRow.digest.not_in(list(kept)))
    )


def _report_row(entry_id: str, report: AgentReport, *, version: int, now: datetime) -> BootReportRow:
    return BootReportRow(
        entry_id=entry_id,
        at=now,
        instruction=version,
        stage=report.stage.value,
        state=report.state.value,
        detail=report.detail,
        bytes_done=report.bytes_done,
    )
