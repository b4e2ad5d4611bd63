"""What a waiting operation is told when a machine does not do what was hoped for."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from levier.domain.bootentry import BootEntryView, Instruction, TimedReport
from levier.domain.errors import Conflict, LeaseLost, LevierError, OutcomeUnknown, Rejected, Unreachable
from levier.domain.inventory import Inventory
from levier.domain.netboot import AgentAction, AgentReport, AgentStage, BootPurpose, ReportState
from levier.services import boot_wait
from levier.services.boot_wait import BootPatience, BootWait

START = datetime(2026, 1, 1, tzinfo=UTC)
PATIENCE = BootPatience(first_sign_s=900, silence_s=180, poll_s=0)
PUBLISHED = BootEntryView(
    entry_id="e1",
    node="a1-01",
    mac="52:54:00:00:00:01",
    operation="op1",
    purpose=BootPurpose.DEPLOY,
    address="10.77.0.11",
    hostname="a1-01",
    created_at=START,
    script_fetched_at=None,
    script_fetches=0,
    claimed_at=None,
    claims=0,
    last_seen=None,
    inventory=None,
    instruction=Instruction(version=1, action=AgentAction.WAIT),
    reports=(),
)
CLAIMED = replace(
    PUBLISHED,
    script_fetched_at=START + timedelta(seconds=30),
    script_fetches=1,
    claimed_at=START + timedelta(seconds=40),
    claims=1,
    last_seen=START + timedelta(seconds=40),
    inventory=Inventory(),
)
WRITING = replace(
    CLAIMED,
    instruction=Instruction(version=2, action=AgentAction.WRITE, disk="vda", taken_at=START, taken_by_claim=1),
)


class Clock:
    """Ten seconds later at every look."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=10)
        return self.now


def reported(stage: AgentStage, state: ReportState, detail: str = "", *, version: int = 2) -> TimedReport:
    return TimedReport(at=START, instruction=version, report=AgentReport(stage=stage, state=state, detail=detail))


def outcome(
    view: BootEntryView | None, *, lease: bool | None = False, timeout_s: float = 3600
) -> BootEntryView | LevierError:
    wait = BootWait(
        node="a1-01",
        read=lambda: view,
        until=lambda v: v.is_written,
        check=lambda: None,
        lease_given=lambda _mac: lease,
        clock=Clock(),
    )
    try:
        return wait.run(timeout_s=timeout_s, patience=PATIENCE)
    except LevierError as error:
        return error


def test_silence_names_the_last_stage_seen() -> None:
    fetched = replace(PUBLISHED, script_fetched_at=START + timedelta(seconds=30), script_fetches=1)
    cases = [
        (PUBLISHED, False, "asked for no DHCP lease", 900),
        (PUBLISHED, True, "DHCP lease given, boot script not fetched", 900),
        (PUBLISHED, None, "boot script not fetched", 900),
        (fetched, True, "no claim since", 180),
        (CLAIMED, True, "told wait, last seen", 180),
    ]
    for view, lease, stage, limit_s in cases:
        error = outcome(view, lease=lease)
        assert isinstance(error, Unreachable), view
        assert stage in str(error)
        assert error.hint
        assert limit_s <= float(str(error).split(" for ")[1].split(" s:")[0]) < limit_s + 60


def test_where_dhcp_is_external_no_lease_is_missed() -> None:
    error = outcome(PUBLISHED, lease=None)
    assert isinstance(error, Unreachable)
    assert "lease" not in str(error)
    assert "DHCP of this network is external" in error.hint


def test_a_claimed_machine_that_boots_again_is_described_by_its_newest_sign() -> None:
    again = replace(CLAIMED, script_fetched_at=START + timedelta(seconds=90), script_fetches=2)
    assert "no claim since" in str(outcome(again))


def test_the_agents_own_cause_is_passed_on() -> None:
    failed = replace(WRITING, reports=(reported(AgentStage.VERIFY, ReportState.FAILED, "digest is a, not b"),))
    error = outcome(failed)
    assert isinstance(error, Rejected)
    assert "verify: digest is a, not b" in str(error)


def test_a_failure_of_an_earlier_instruction_is_past() -> None:
    reports = (
        reported(AgentStage.WRITE, ReportState.FAILED, "old", version=1),
        reported(AgentStage.VERIFY, ReportState.DONE),
        reported(AgentStage.SEED, ReportState.DONE),
    )
    assert outcome(replace(WRITING, reports=reports)) == replace(WRITING, reports=reports)


def test_written_needs_verification_and_seed() -> None:
    assert not WRITING.is_written
    assert not replace(WRITING, reports=(reported(AgentStage.SEED, ReportState.DONE),)).is_written


def test_a_restart_in_the_middle_is_an_unknown_outcome() -> None:
    error = outcome(replace(WRITING, claims=2))
    assert isinstance(error, OutcomeUnknown)
    assert "started anew" in str(error)


def test_time_over_while_the_agent_works_is_an_unknown_outcome() -> None:
    assert isinstance(outcome(WRITING, timeout_s=60), OutcomeUnknown)
    assert isinstance(outcome(PUBLISHED, timeout_s=60), Unreachable)


def test_withdrawal_ends_the_waiting() -> None:
    assert isinstance(outcome(None), Conflict)


def test_the_callers_check_ends_the_waiting() -> None:
    def lost() -> None:
        raise LeaseLost("another worker took over")

    wait = BootWait(
        node="a1-01",
        read=lambda: CLAIMED,
        until=lambda v: True,
        check=lost,
        lease_given=lambda _mac: False,
        clock=Clock(),
    )
    with pytest.raises(LeaseLost):
        wait.run(timeout_s=60, patience=PATIENCE)


def test_a_database_that_was_away_is_not_the_machines_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could hear the agent meanwhile: it gets its whole time again, counted from then on."""
    monkeypatch.setattr(boot_wait, "BLIND_S", 0.05)
    clock, looks = Clock(), iter([0.0, 0.2, 0.0])

    def read() -> BootEntryView:
        pause_s = next(looks, None)
        if pause_s is None:
            return replace(CLAIMED, inventory=Inventory(serial="heard"))
        time.sleep(pause_s)  # what a look costs that waits for the database
        clock.now += timedelta(hours=1) if pause_s else timedelta()
        return CLAIMED

    wait = BootWait(
        node="a1-01",
        read=read,
        until=lambda view: view.inventory is not None and view.inventory.serial == "heard",
        check=lambda: None,
        lease_given=lambda _: True,
        clock=clock,
    )
    assert wait.run(timeout_s=1800, patience=PATIENCE).is_claimed
