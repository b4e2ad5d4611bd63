"""Boot entries as operations use them: publish, instruct, look at, withdraw. The agent's side is boot_sessions.py."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, delete, or_, select
from sqlalchemy.orm import Session

from levier.domain.bootentry import BootEntryView, Instruction, TimedReport
from levier.domain.errors import Conflict, NotFound
from levier.domain.inventory import Inventory
from levier.domain.netboot import (
    AgentAction,
    AgentReport,
    AgentStage,
    BootPurpose,
    DhcpHost,
    ImageRef,
    ReportState,
)
from levier.domain.operation import Fence
from levier.store.base import exclusive, reading, writing
from levier.store.boot_tables import BootEntryRow, BootInstructionRow, BootReportRow
from levier.store.fencing import hold


@dataclass(frozen=True, slots=True)
class NewBootEntry:
    """What is asked for: this node may boot from the network, on behalf of this operation."""

    node: str
    mac: str
    operation: str
    purpose: BootPurpose
    address: str
    hostname: str


@dataclass(frozen=True, slots=True)
class NewInstruction:
    """What the agent is to be told. The seed is sealed already; its digest is of the clear text."""

    action: AgentAction
    reason: str = ""
    disk: str = ""
    image: ImageRef | None = None
    seed_sealed: bytes | None = None
    seed_digest: str = ""


class BootStore:
    """Boot entries in the database. Every call is one transaction; none of them waits for a machine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def publish(self, new: NewBootEntry, *, by: Fence, now: datetime) -> BootEntryView:
        """The entry stands. Safe to repeat by the same operation, which may so change purpose, MAC and address.

        Raises Conflict when another operation's entry stands, or another node's with the same MAC or address;
        LeaseLost, as all writing calls do, when another worker took the operation over.
        """
        with writing(self._engine) as session:
            hold(session, by)
            exclusive(session, "boot_entry")
            _refuse_collision(session, new)
            row = _locked(session, new.node)
            if row is None:
                row = BootEntryRow(id=secrets.token_hex(16), node=new.node, operation=new.operation, created_at=now)
                row.script_fetches = row.claims = 0
                session.add(row)
            row.mac, row.address, row.hostname = new.mac, new.address, new.hostname
            row.purpose = new.purpose.value
            session.flush()
            if session.get(BootInstructionRow, row.id) is None:
                session.add(_first_instruction(row.id, now))
                session.flush()
            return view_of(session, row)

    def withdraw(self, *, node: str, by: Fence) -> bool:
        """No entry of the operation for `node` stands, nor token, session, seed or report of it. True if there was one.

        Safe to repeat. Another operation's entry is left alone.
        """
        wanted = (BootEntryRow.node == node, BootEntryRow.operation == by.operation)
        with writing(self._engine) as session:
            hold(session, by)
            found = session.scalar(select(BootEntryRow.id).where(*wanted).with_for_update())
            if found is not None:
                session.execute(delete(BootEntryRow).where(BootEntryRow.id == found))
            return found is not None

    def get(self, node: str) -> BootEntryView | None:
        """The node's entry with its reports, or None."""
        with reading(self._engine) as session:
            row = session.scalar(select(BootEntryRow).where(BootEntryRow.node == node))
            return None if row is None else view_of(session, row)

    def list(self) -> tuple[BootEntryView, ...]:
        """All standing entries by node."""
        with reading(self._engine) as session:
            rows = session.scalars(select(BootEntryRow).order_by(BootEntryRow.node)).all()
            return tuple(view_of(session, row) for row in rows)

    def hosts(self) -> tuple[DhcpHost, ...]:
        """What DHCP may answer: one host per standing entry."""
        columns = select(BootEntryRow.mac, BootEntryRow.address, BootEntryRow.hostname).order_by(BootEntryRow.node)
        with reading(self._engine) as session:
            return tuple(DhcpHost(mac=m, address=a, hostname=h) for m, a, h in session.execute(columns))

    def versions(self) -> dict[str, int]:
        """The version of the present instruction of every standing entry, by entry id: cheap, for long polls."""
        columns = select(BootInstructionRow.entry_id, BootInstructionRow.version)
        with reading(self._engine) as session:
            return dict(session.execute(columns).all())

    def instruct(self, *, node: str, by: Fence, new: NewInstruction, now: datetime) -> bool:
        """`new` is the present instruction. False when it already was, and has neither failed nor been interrupted.

        A seed that differs before the agent fetched it is replaced without telling the agent anew. Raises NotFound
        when no entry of the operation stands, and Conflict while the agent carries out a different write.
        """
        with writing(self._engine) as session:
            hold(session, by)
            entry = _locked(session, node)
            if entry is None or entry.operation != by.operation:
                raise _no_entry(node, by.operation)
            row = session.get_one(BootInstructionRow, entry.id)
            view = view_of(session, entry)
            if _is_same(row, new) and view.failure is None and not view.is_interrupted:
                if row.seed_sealed is None or new.seed_digest == row.seed_digest:
                    return False
                if row.seed_sent_at is None:
                    row.seed_sealed, row.seed_digest = new.seed_sealed, new.seed_digest
                    return False
            _refuse_while_writing(view, new)
            _replace(row, new, now=now)
            return True


def view_of(session: Session, row: BootEntryRow) -> BootEntryView:
    """The row with its instruction and reports, as plain data."""
    instruction = session.get_one(BootInstructionRow, row.id)
    reports = session.scalars(
        select(BootReportRow).where(BootReportRow.entry_id == row.id).order_by(BootReportRow.id)
    ).all()
    return BootEntryView(
        entry_id=row.id,
        node=row.node,
        mac=row.mac,
        operation=row.operation,
        purpose=BootPurpose(row.purpose),
        address=row.address,
        hostname=row.hostname,
        created_at=row.created_at,
        script_fetched_at=row.script_fetched_at,
        script_fetches=row.script_fetches,
        claimed_at=row.claimed_at,
        claims=row.claims,
        last_seen=row.last_seen_at,
        inventory=None if row.inventory is None else Inventory.model_validate_json(row.inventory),
        instruction=instruction_of(instruction),
        reports=tuple(_timed(r) for r in reports),
    )


def instruction_of(row: BootInstructionRow) -> Instruction:
    """The row as plain data, without the seed."""
    return Instruction(
        version=row.version,
        action=AgentAction(row.action),
        reason=row.reason,
        disk=row.disk,
        image=None if row.image is None else ImageRef.model_validate_json(row.image),
        taken_at=row.taken_at,
        taken_by_claim=row.taken_by_claim,
    )


def _timed(row: BootReportRow) -> TimedReport:
    report = AgentReport(
        stage=AgentStage(row.stage), state=ReportState(row.state), detail=row.detail, bytes_done=row.bytes_done
    )
    return TimedReport(at=row.at, instruction=row.instruction, report=report)


def _locked(session: Session, node: str) -> BootEntryRow | None:
    """The node's row, locked until the transaction ends (on SQLite the transaction is exclusive for writers anyway)."""
    return session.scalar(select(BootEntryRow).where(BootEntryRow.node == node).with_for_update())


def _refuse_collision(session: Session, new: NewBootEntry) -> None:
    same = or_(BootEntryRow.node == new.node, BootEntryRow.mac == new.mac, BootEntryRow.address == new.address)
    for row in session.scalars(select(BootEntryRow).where(same)).all():
        if row.node == new.node and row.operation == new.operation:
            continue
        what = "node" if row.node == new.node else f"MAC {new.mac}" if row.mac == new.mac else f"address {new.address}"
        raise Conflict(
            f"node {new.node} cannot boot from the network: the {what} is held by the boot entry of node {row.node}, "
            f"operation {row.operation}",
            hint=f"wait for operation {row.operation} to end, or roll it back",
        )


def _first_instruction(entry_id: str, now: datetime) -> BootInstructionRow:
    row = BootInstructionRow(entry_id=entry_id, version=0, taken_by_claim=0)
    _replace(row, NewInstruction(AgentAction.WAIT), now=now)
    return row


def _replace(row: BootInstructionRow, new: NewInstruction, *, now: datetime) -> None:
    row.version += 1
    row.action, row.reason, row.disk = new.action.value, new.reason, new.disk
    row.image = None if new.image is None else new.image.model_dump_json()
    row.image_sha256 = "" if new.image is None else new.image.sha256
    row.seed_sealed, row.seed_digest, row.seed_sent_at = new.seed_sealed, new.seed_digest, None
    row.instructed_at, row.handed_at, row.taken_at, row.taken_by_claim = now, None, None, 0


def _is_same(row: BootInstructionRow, new: NewInstruction) -> bool:
    present = (row.action, row.reason, row.disk, row.image_sha256)
    return present == (new.action.value, new.reason, new.disk, "" if new.image is None else new.image.sha256)


def _refuse_while_writing(view: BootEntryView, new: NewInstruction) -> None:
    """Only refusing the machine may interrupt a write under way; the agent hears of anything else too late."""
    at_work = view.instruction.action is AgentAction.WRITE and view.instruction.taken_at is not None
    ended = view.is_written or view.failure is not None or view.is_interrupted
    if at_work and not ended and new.action in (AgentAction.WRITE, AgentAction.REBOOT):
        raise Conflict(
            f"the agent on node {view.node} is still writing its disk {view.instruction.disk}",
            hint="wait for its report, or withdraw the boot entry",
        )


def _no_entry(node: str, operation: str) -> NotFound:
    return NotFound(
        f"operation {operation} has no boot entry for node {node}", hint="publish the boot entry before instructing it"
    )
