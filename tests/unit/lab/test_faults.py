"""The book of faults of a node: what counts, when it strikes, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from levier.domain.bmc import PowerState
from levier.domain.errors import InvalidRequest
from levier.lab.faults import CAPABLE, TRAITS, BmcCommand, Fault, FaultKind, NodeFaults, Stage, checked, require_capable
from levier.lab.ledger import EventKind
from levier.lab.spec import ChassisKind, plan_rack

LOST = FaultKind.BMC_REPLIES_LOST


class Book:
    """A node's faults, and what they wrote into the ledger."""

    def __init__(self, node: str = "a1-01") -> None:
        self.entries: list[dict[str, Any]] = []
        self.faults = NodeFaults(node=node, record=self._record)

    def _record(self, kind: EventKind, /, **detail: Any) -> None:
        assert kind is EventKind.FAULT
        self.entries.append(detail)

    def draw(self, kind: FaultKind, times: int, **circumstances: str) -> list[bool]:
        return [self.faults.due(kind, **circumstances) is not None for _ in range(times)]


def test_nothing_strikes_unarmed() -> None:
    book = Book()
    assert book.draw(LOST, 3) == [False] * 3
    assert book.entries == []


@pytest.mark.parametrize(
    ("after", "count", "struck"),
    [
        (0, 1, [True, False, False, False, False]),
        (2, 2, [False, False, True, True, False]),
        (1, None, [False, True, True, True, True]),
    ],
)
def test_after_and_count(after: int, count: int | None, struck: list[bool]) -> None:
    book = Book()
    book.faults.arm(Fault(kind=LOST, after=after, count=count))
    assert book.draw(LOST, 5) == struck
    strikes = [entry for entry in book.entries if entry["event"] == "struck"]
    assert [entry["strike"] for entry in strikes] == list(range(1, sum(struck) + 1))
    (row,) = book.faults.snapshot()
    assert (row["seen"], row["struck"]) == (5, sum(struck))


def test_a_percentage_is_met_and_repeatable_and_differs_between_nodes() -> None:
    def drawn(node: str, seed: int) -> list[bool]:
        book = Book(node)
        book.faults.arm(Fault(kind=LOST, count=None, percent=30, seed=seed))
        return book.draw(LOST, 1000)

    first = drawn("a1-01", 7)
    assert 250 < sum(first) < 350
    assert drawn("a1-01", 7) == first
    assert drawn("a1-02", 7) != first
    assert drawn("a1-01", 8) != first


def test_only_what_it_concerns_is_counted() -> None:
    book = Book()
    book.faults.arm(Fault(kind=LOST, after=1, command=BmcCommand.POWER))
    assert book.draw(LOST, 4, command="status") == [False] * 4
    assert book.draw(LOST, 3, command="power") == [False, True, False]
    assert book.entries[-1] == {"event": "struck", "fault": "bmc-replies-lost", "strike": 1, "command": "power"}


def test_arming_again_counts_anew_and_healing_ends_it() -> None:
    book = Book()
    for _ in range(2):
        book.faults.arm(Fault(kind=LOST))
        assert book.draw(LOST, 2) == [True, False]
    book.faults.arm(Fault(kind=FaultKind.BMC_DIES))
    assert book.faults.heal(LOST) == [LOST]
    assert not book.faults.armed(LOST)
    assert book.faults.armed(FaultKind.BMC_DIES)
    assert book.faults.heal() == [FaultKind.BMC_DIES]
    assert book.faults.heal() == []
    assert [e["event"] for e in book.entries] == ["armed", "struck", "armed", "struck", "armed", "healed", "healed"]


def test_a_fault_survives_its_journey_to_the_daemon() -> None:
    for fault in (
        Fault(kind=FaultKind.POWER_STATE_LIES, says=PowerState.ON, count=None),
        Fault(kind=FaultKind.RAMDISK_HANGS, stage=Stage.VERIFY, after=2, count=3),
        Fault(kind=LOST, command=BmcCommand.LOGIN, percent=12.5, seed=9),
        Fault(kind=FaultKind.CLOCK_OFF, seconds=-3600.0),
    ):
        assert Fault.from_json(fault.to_json()) == fault


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        (Fault(kind=LOST, stage=Stage.WRITE), "--stage"),
        (Fault(kind=FaultKind.DISK_FULL, seconds=3), "--seconds"),
        (Fault(kind=FaultKind.BMC_IGNORES_COMMAND, command=BmcCommand.STATUS), "ignore status"),
        (Fault(kind=LOST, after=-1), "--after"),
        (Fault(kind=LOST, count=0), "--count"),
        (Fault(kind=LOST, percent=0), "--percent"),
        (Fault(kind=LOST, percent=101), "--percent"),
        (Fault(kind=FaultKind.CLOCK_OFF, seconds=0.0), "--seconds"),
    ],
)
def test_what_cannot_be_is_refused_by_name(fault: Fault, named: str) -> None:
    with pytest.raises(InvalidRequest, match=named):
        checked(fault)


def test_defaults_belong_to_the_kind() -> None:
    assert checked(Fault(kind=FaultKind.BMC_REPLIES_LATE)).seconds == 2.0
    assert checked(Fault(kind=FaultKind.BMC_REPLIES_LATE, seconds=4.0)).seconds == 4.0
    assert checked(Fault(kind=FaultKind.BMC_DIES)).seconds is None


def test_every_kind_is_described_and_some_chassis_can_do_it() -> None:
    assert set(TRAITS) == set(FaultKind)
    assert set(CAPABLE) == set(ChassisKind)


def test_a_fault_that_a_chassis_cannot_do_is_refused_with_those_it_can() -> None:
    nodes = plan_rack(name="f", chassis=ChassisKind.QEMU, nodes=2).nodes
    require_capable(nodes, LOST)
    with pytest.raises(InvalidRequest, match="qemu cannot do ramdisk-hangs") as caught:
        require_capable(nodes, FaultKind.RAMDISK_HANGS)
    assert "bmc-dies" in caught.value.hint
    assert "ramdisk-hangs" not in caught.value.hint
