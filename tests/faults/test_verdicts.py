"""Every fault that a rack can be made to produce, and what Levier says and does about it, over real protocols.

One operation expands a rack of which each machine has another fault; each test looks at one machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from levier.domain.bmc import PowerState
from levier.domain.operation import TargetOutcome, UndoState
from levier.domain.operation_status import ErrorRecord
from levier.lab.faults import BmcCommand, Fault, FaultKind, Stage
from levier.services.patience import Patience
from tests.rig.levier_in_process import LevierInProcess, Verdict, levier_in_process

READY, UNDONE, OPERATOR = TargetOutcome.READY, TargetOutcome.UNDONE, TargetOutcome.NEEDS_OPERATOR
# Long enough that a computer as busy as one that runs all tests at once is not taken for a fault.
POWER_S = 12.0
BMC_S = 12.0
"""A BMC's timeout_s: longer than this computer, with its BMCs, is expected to stand still."""
PATIENCE = Patience(
    power_timeout_s=POWER_S,
    first_sign_timeout_s=60.0,
    silence_timeout_s=20.0,
    agent_timeout_s=120.0,
    write_timeout_s=120.0,
    host_timeout_s=45.0,
    clock_timeout_s=4.0,
)


@dataclass(frozen=True)
class Case:
    """One machine's fault, and the verdict on it."""

    name: str
    faults: tuple[Fault, ...]
    outcome: TargetOutcome
    step: str = ""
    """The step that fails for good; for a READY machine, the one that takes more than one attempt (if any)."""
    error: str = ""
    """What the step says when it fails, for good or in an attempt."""
    attempts: int = 0
    hint: str = ""
    undo_fails: tuple[str, ...] = field(default=())
    before: dict[str, Fault] = field(default_factory=dict)
    """Faults armed when the machine comes to a step: how often a BMC was asked by then depends on its resends."""
    resends_count: bool = False
    """The fault strikes a question as often as it is sent, so that one attempt may take several strikes."""
    by_chance: bool = False
    """Which replies are lost depends on how often the BMC is asked, so on how fast this computer is: each of the steps
    that ask it may need another attempt, or none."""

    def told(self, node: str) -> str:
        """What the step says about this node, where power is waited for so long."""
        return self.error.format(node=node, power=f"{POWER_S:g}")


def once(kind: FaultKind, **terms: object) -> tuple[Fault, ...]:
    return (Fault(kind=kind, **terms),)  # type: ignore[arg-type]


def always(kind: FaultKind, **terms: object) -> tuple[Fault, ...]:
    return once(kind, count=None, **terms)


K = FaultKind
CASES = [
    Case("no fault at all", (), READY),
    # --- BMC: replies
    Case("reply to power lost", once(K.BMC_REPLIES_LOST, command=BmcCommand.POWER), READY),
    Case("30 % of replies lost", always(K.BMC_REPLIES_LOST, percent=30.0, seed=11), READY, by_chance=True),
    Case(
        "no reply to a status",
        always(K.BMC_REPLIES_LOST, command=BmcCommand.STATUS),
        UNDONE,
        step="verify-bmc",
        error="stopped answering at 'get chassis status'",
        attempts=4,
        hint="raise timeout_s",
    ),
    # Later than the driver's resend (1 s).
    Case("replies late", once(K.BMC_REPLIES_LATE, count=10, seconds=1.2), READY),
    Case("replies twice", always(K.BMC_REPLIES_DUPLICATED), READY),
    # --- BMC: sessions
    Case(
        "sessions exhausted for a while",
        once(K.BMC_SESSIONS_EXHAUSTED, count=3),
        READY,
        step="verify-bmc",
        attempts=4,
        error="no free session slot",
        resends_count=True,
    ),
    Case(
        "sessions exhausted",
        always(K.BMC_SESSIONS_EXHAUSTED),
        UNDONE,
        step="verify-bmc",
        error="has no free session slot",
        attempts=5,
        hint="close other IPMI sessions",
    ),
    Case(
        "BMC dead for a while",
        once(K.BMC_DIES, seconds=BMC_S + 1),  # beyond the first attempt, and within the second
        READY,
        step="verify-bmc",
        attempts=2,
        error="BMC",
    ),
    Case(
        "BMC dead",
        once(K.BMC_DIES),
        UNDONE,
        step="verify-bmc",
        error="does not answer IPMI on UDP port",
        attempts=4,
        hint="cabling",
    ),
    # --- BMC: what it does
    Case(
        "power command ignored once",
        once(K.BMC_IGNORES_COMMAND, command=BmcCommand.POWER),
        READY,
        step="power-on",
        attempts=2,
        error="was accepted, but the chassis is off after {power} s",
    ),
    Case(
        "power commands ignored",
        always(K.BMC_IGNORES_COMMAND, command=BmcCommand.POWER),
        UNDONE,
        step="power-on",
        error="was accepted, but the chassis is off after {power} s",
        attempts=4,
        hint="power supplies",
    ),
    Case(
        "boot device ignored",
        always(K.BMC_IGNORES_COMMAND, command=BmcCommand.BOOT_DEVICE),
        UNDONE,
        step="set-boot-device",
        error=r"accepted boot override pxe (once, bios) but reports none",
        attempts=1,
        hint="in the machine's firmware",
    ),
    Case(
        "power reads off for ever",
        always(K.POWER_STATE_LIES, says=PowerState.OFF),
        UNDONE,
        step="power-on",
        error="the BMC's power reading is wrong",
        attempts=1,
        hint="restart the BMC",
    ),
    Case(
        "power reads on for ever",
        always(K.POWER_STATE_LIES, says=PowerState.ON),
        UNDONE,
        step="power-off",
        error="was accepted, but the chassis is on after {power} s",
        attempts=4,
        hint="reading may be wrong",
    ),
    Case("power read wrong once", once(K.POWER_STATE_LIES, after=4), READY),
    Case(
        "off cannot be seen any more",
        once(K.IMAGE_CORRUPTED),
        OPERATOR,
        before={"write-image": Fault(kind=K.POWER_STATE_LIES, count=None, says=PowerState.ON)},
        step="write-image",
        undo_fails=("power-on",),
        error="image checksum mismatch",
        attempts=1,
    ),
    # --- ramdisk and disk
    Case(
        "ramdisk hangs before its claim",
        once(K.RAMDISK_HANGS, stage=Stage.CLAIM),
        UNDONE,
        step="await-agent",
        error="s ago, no claim since",
        attempts=1,
        hint="lack of a driver",
    ),
    *(
        Case(
            f"ramdisk hangs at {stage}",
            once(K.RAMDISK_HANGS, stage=stage),
            UNDONE,
            step="write-image",
            error=f"nothing heard of node {{node}} for 20 s: last report {stage}/started",
            attempts=1,
            hint="console",
        )
        for stage in (Stage.WRITE, Stage.VERIFY, Stage.SEED)
    ),
    Case(
        "image corrupted",
        once(K.IMAGE_CORRUPTED),
        UNDONE,
        step="write-image",
        error="the agent on node {node} failed at write: image checksum mismatch: expected",
        attempts=1,
        hint="console",
    ),
    Case(
        "disk full",
        once(K.DISK_FULL),
        UNDONE,
        step="write-image",
        error="the image cannot be unpacked onto the disk: zstd: error 93 : Write error : cannot write block : No",
        attempts=1,
    ),
    # --- host
    Case("SSH drops while the host comes up", once(K.SSH_DROPS), READY),
    Case("SSH drops in the baseline", once(K.SSH_DROPS, after=4), READY, step="apply-baseline", attempts=2),
    Case(
        "SSH always drops",
        always(K.SSH_DROPS),
        UNDONE,
        step="boot-host",
        error="{node} did not come up from its disk: not up after 45 s",
        attempts=1,
        hint="firewall",
    ),
    Case(
        "host never returns",
        once(K.HOST_NEVER_RETURNS),
        UNDONE,
        step="boot-host",
        error="{node} did not come up from its disk: not up after 45 s; last: root@",
        attempts=1,
        hint="the image was written and verified",
    ),
    Case(
        "clock a day ahead",
        always(K.CLOCK_OFF, seconds=86450.0),  # what is measured may be some seconds less
        UNDONE,
        step="verify-host",
        error="{node}: the host's clock is 864",
        attempts=1,
        hint="ntp_servers",
    ),
    Case("clock two minutes behind", always(K.CLOCK_OFF, seconds=-120.0), READY),
]
BY_NAME = {case.name: case for case in CASES}
ASKING_THE_BMC = {"verify-bmc", "inspect-bmc", "power-off", "set-boot-device", "power-on"}
NOT_IN_TIME = {"Unreachable", "OutcomeUnknown"}
BY_A_BUSY_COMPUTER = 1
"""So many attempts of a machine may fail because this computer stood still longer than a BMC is waited for."""
SILENT = re.compile(r"(?<=nothing heard of node )(\S+) for (\d+) s")
PAGE = Path(__file__).parents[2] / "docs" / "faults.md"


@dataclass(frozen=True)
class Outcome:
    levier: LevierInProcess
    verdict: Verdict
    node_of: dict[str, str]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    with levier_in_process(
        tmp_path_factory.mktemp("levier"), nodes=len(CASES), patience=PATIENCE, bmc_timeout_s=BMC_S
    ) as levier:
        node_of = dict(zip(BY_NAME, (node.name for node in levier.rack.spec().nodes), strict=True))
        for case in CASES:
            for fault in case.faults:
                levier.inject(node_of[case.name], fault)
        at = {(step, node_of[c.name]): fault for c in CASES for step, fault in c.before.items()}

        def arm(step: str, node: str) -> None:
            if (step, node) in at:
                levier.inject(node, at[step, node])

        yield Outcome(levier, levier.operate("expand", parallel=len(CASES), before_step=arm), node_of)


def said(error: ErrorRecord) -> str:
    """The message, with the limit in place of a measured silence: it is longer when this computer stood still."""
    limit_s = PATIENCE.silence_timeout_s
    measured = SILENT.search(error.message)
    if measured is None or not limit_s <= int(measured[2]) < 3 * limit_s:
        return error.message
    return SILENT.sub(rf"\1 for {limit_s:g} s", error.message)


@pytest.mark.parametrize("name", BY_NAME)
def test_verdict(outcome: Outcome, name: str) -> None:
    case, node = BY_NAME[name], outcome.node_of[name]
    status = outcome.verdict.status
    assert status.targets[node].outcome is case.outcome, status.targets[node].error
    strikes = outcome.levier.strikes(node)
    assert len(strikes) >= len(case.faults) + len(case.before)
    failures = outcome.levier.failures(outcome.verdict, node)
    of_the_fault = [f for f in failures if f[0] == case.step and case.told(node) in said(f[1])]
    others = [f for f in failures if f not in of_the_fault]
    assert [f for f in others if f[0] not in ASKING_THE_BMC or f[1].error not in NOT_IN_TIME] == []
    assert case.by_chance or len(others) <= BY_A_BUSY_COMPUTER, others
    if case.outcome is READY:
        if case.resends_count:
            assert 1 <= len(of_the_fault) < case.attempts
            assert len(strikes) == sum(fault.count or 0 for fault in case.faults)
        else:
            assert len(of_the_fault) == max(0, case.attempts - 1)
        return
    failed = outcome.verdict.failed(node)
    assert failed.step == case.step
    assert failed.error is not None
    assert case.told(node) in said(failed.error)
    assert case.hint in failed.error.hint
    assert case.attempts <= failed.attempts <= case.attempts + len(others)
    stuck = tuple(s.step for s in status.steps if s.target == node and s.undo is UndoState.FAILED)
    assert stuck == case.undo_fails


@pytest.mark.parametrize("name", [case.name for case in CASES if case.outcome is READY])
def test_what_is_ready_was_written_once_and_booted_twice(outcome: Outcome, name: str) -> None:
    node = outcome.node_of[name]
    truth = outcome.levier.rack.node(node)
    assert (truth["power"], truth["booted_from"], truth["boots"], truth["image_writes"]) == ("on", "disk", 2, 1)
    powers = [e.detail["to"] for e in outcome.levier.events(node, "power")]
    assert powers == ["on"]


@pytest.mark.parametrize("name", [case.name for case in CASES if case.outcome is UNDONE])
def test_what_is_undone_is_off_and_free(outcome: Outcome, name: str) -> None:
    node = outcome.node_of[name]
    truth = outcome.levier.rack.node(node)
    assert truth["power"] == "off"
    assert truth["image_writes"] <= 1
    record = next(n for n in outcome.levier.services.inventory.nodes() if n["name"] == node)
    assert (record["state"], record["operation"]) == ("enrolled", None)
    assert outcome.levier.services.boot_entries.get(node) is None


def test_the_one_that_cannot_be_seen_off_keeps_both_errors(outcome: Outcome) -> None:
    node = outcome.node_of["off cannot be seen any more"]
    step = outcome.verdict.status.step("power-on", node)
    assert step.undo_error is not None
    assert f"the chassis is on after {POWER_S:g} s" in step.undo_error.message
    assert outcome.verdict.state == "needs_operator"
    reason = outcome.verdict.settlement.reason
    assert f"power-on on {node} cannot be undone" in reason
    assert "image checksum mismatch" in reason
    # It was told to be off, and is: only the BMC says otherwise, and Levier does not claim what it cannot see.
    assert outcome.levier.rack.node(node)["power"] == "off"


def test_no_command_was_sent_more_often_than_the_verdict_says(outcome: Outcome) -> None:
    sent: dict[str, list[str]] = {
        name: [
            e.detail["action"]
            for e in outcome.levier.events(node, "bmc-command")
            if e.detail["name"] == "Chassis Control"
        ]
        for name, node in outcome.node_of.items()
    }
    assert sent["no fault at all"] == ["on"]
    assert sent["reply to power lost"] == ["on"]
    assert sent["30 % of replies lost"] == ["on"]
    assert sent["replies twice"] == ["on"]
    assert sent["power command ignored once"] == ["on", "on"]
    # An attempt that does not come through to the BMC sends nothing.
    assert sent["power commands ignored"] in [["on"] * count + ["off"] for count in (1, 2, 3, 4)]
    assert sent["power reads off for ever"] == ["on", "off"]
    assert sent["power reads on for ever"] in [["off"] * count for count in (1, 2, 3, 4)]
    assert sent["BMC dead"] == []


def test_the_page_for_operators_tells_every_fault_and_every_error() -> None:
    page = PAGE.read_text()
    assert [kind for kind in FaultKind if f"`{kind}" not in page] == []
    told = {case.name: case.told("a1-01") for case in CASES if case.error}
    assert [name for name, error in told.items() if error not in page] == []
    assert {kind for case in CASES for kind in (fault.kind for fault in (*case.faults, *case.before.values()))} == set(
        FaultKind
    )
