"""A node's boot entry as operations see it: who may boot, what its agent was told, what it reported."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from levier.domain.inventory import Inventory
from levier.domain.netboot import AgentAction, AgentReport, AgentStage, BootPurpose, ImageRef, ReportState


@dataclass(frozen=True, slots=True)
class TimedReport:
    """One report of an agent, when it came, and which instruction it answers."""

    at: datetime
    instruction: int
    report: AgentReport


@dataclass(frozen=True, slots=True)
class Instruction:
    """What the agent is to do now. `version` grows by one with every new instruction of the entry.

    A `write` or `reboot` is *taken* when the agent first reports on it; from then on it is not handed out again.
    """

    version: int
    action: AgentAction
    reason: str = ""
    disk: str = ""
    image: ImageRef | None = None
    taken_at: datetime | None = None
    taken_by_claim: int = 0

    @property
    def is_handed_out(self) -> bool:
        """An agent that asks now is told this; otherwise it is told to wait."""
        return self.taken_at is None or self.action not in (AgentAction.WRITE, AgentAction.REBOOT)


@dataclass(frozen=True, slots=True)
class BootEntryView:
    """A standing boot entry, as of one read of the database. Times are aware and in UTC."""

    entry_id: str
    node: str
    mac: str
    operation: str
    purpose: BootPurpose
    address: str
    hostname: str
    created_at: datetime
    script_fetched_at: datetime | None
    script_fetches: int
    claimed_at: datetime | None
    claims: int
    """How many agents claimed this entry so far: a second one means that the machine started anew."""
    last_seen: datetime | None
    inventory: Inventory | None
    instruction: Instruction
    reports: tuple[TimedReport, ...]
    """In the order they came."""

    @property
    def answers(self) -> tuple[TimedReport, ...]:
        """The reports on the present instruction."""
        return tuple(r for r in self.reports if r.instruction == self.instruction.version)

    @property
    def failure(self) -> AgentReport | None:
        """The agent's report that the present instruction failed, or None."""
        return next((r.report for r in self.answers if r.report.state is ReportState.FAILED), None)

    @property
    def is_claimed(self) -> bool:
        """An agent runs on the machine and has reported its inventory."""
        return self.claimed_at is not None and self.inventory is not None

    @property
    def is_written(self) -> bool:
        """The image told by the present instruction is on the disk, verified, with its seed."""
        done = {r.report.stage for r in self.answers if r.report.state is ReportState.DONE}
        return self.instruction.action is AgentAction.WRITE and {AgentStage.VERIFY, AgentStage.SEED} <= done

    @property
    def is_rebooting(self) -> bool:
        """The agent has said that it reboots the machine now, as the present instruction asks."""
        return self.instruction.action is AgentAction.REBOOT and self.instruction.taken_at is not None

    @property
    def is_interrupted(self) -> bool:
        """The machine started anew after it took the present `write`, and before that was done or had failed."""
        taken = self.instruction.taken_at is not None and self.instruction.action is AgentAction.WRITE
        unfinished = not self.is_written and self.failure is None
        return taken and unfinished and self.claims > self.instruction.taken_by_claim
