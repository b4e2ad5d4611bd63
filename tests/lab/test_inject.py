"""`levier lab inject`, `faults` and `heal` on a rack, as an operator types them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from levier.lab.cli import app
from levier.lab.spec import ChassisKind
from tests.lab.conftest import Bench

pytestmark = pytest.mark.root


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench(chassis=ChassisKind.QEMU, nodes=2, disk_gib=1)


def _lab(bench: Bench, *arguments: str, status: int = 0) -> str:
    where = ("--name", bench.rack.name, "--dir", str(bench.rack.directory))
    result = CliRunner().invoke(app, [*arguments, *where])
    assert result.exit_code == status, result.output
    return result.output


def test_inject_strikes_is_listed_and_healed(bench: Bench) -> None:
    assert _lab(bench, "faults") == "no fault is armed\n"
    said = _lab(bench, "inject", "a1-01", "power-state-lies", "--says", "on", "--count", "2")
    assert "power-state-lies: armed on a1-01" in said
    assert "a reading of the power state" in said
    answers = [bench.ipmi("a1-01", "chassis", "power", "status").split()[-1] for _ in range(3)]
    assert answers == ["on", "on", "off"]
    assert bench.ipmi("a1-02", "chassis", "power", "status").split()[-1] == "off"
    (row,) = json.loads(_lab(bench, "faults", "--json"))
    assert (row["node"], row["kind"], row["seen"], row["struck"], row["says"]) == (
        "a1-01",
        "power-state-lies",
        3,
        2,
        "on",
    )
    assert re.search(r"a1-01 +power-state-lies +count=2 says=on +3 +2", _lab(bench, "faults"))
    events = json.loads(_lab(bench, "events", "--kind", "fault", "--json"))
    assert [event["detail"]["event"] for event in events] == ["armed", "struck", "struck"]
    assert {event["node"] for event in events} == {"a1-01"}
    assert _lab(bench, "heal") == "a1-01: power-state-lies healed\n"
    assert _lab(bench, "heal") == "no fault was armed\n"


def test_all_nodes_and_one_healed(bench: Bench) -> None:
    assert "a1-01, a1-02" in _lab(bench, "inject", "all", "bmc-dies")
    assert "Unable to establish" in bench.refused("a1-02", "-N", "1", "-R", "1", "chassis", "power", "status")
    _lab(bench, "heal", "a1-02", "bmc-dies")
    assert "off" in bench.ipmi("a1-02", "chassis", "power", "status")
    assert [row["node"] for row in bench.rack.faults()] == ["a1-01"]


def test_an_ignored_command_changes_nothing_and_the_ledger_says_so(bench: Bench) -> None:
    _lab(bench, "inject", "a1-01", "bmc-ignores-command", "--command", "power")
    bench.ipmi("a1-01", "chassis", "power", "on")
    assert bench.rack.node("a1-01")["power"] == "off"
    assert bench.boots("a1-01") == []
    told = [e for e in bench.rack.events(node="a1-01", kind="bmc-command") if e.detail["name"] == "Chassis Control"]
    assert [event.detail["ignored"] for event in told] == [True]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("a1-01", "ramdisk-hangs"), "the chassis qemu cannot do ramdisk-hangs"),
        (("a1-09", "bmc-dies"), "has no node a1-09"),
        (("a1-01", "bmc-dies", "--stage", "seed"), "does not take --stage"),
        (("a1-01", "bmc-replies-lost", "--count", "some"), "neither a number nor"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_armed(
    bench: Bench, arguments: tuple[str, ...], named: str
) -> None:
    said = _lab(bench, "inject", *arguments, status=1)
    assert named in said
    assert bench.rack.faults() == []
    assert bench.rack.events(kind="fault") == []


def test_percent_strikes_until_healed_unless_told_otherwise(bench: Bench) -> None:
    _lab(bench, "inject", "a1-01", "bmc-replies-lost", "--percent", "30", "--seed", "5")
    (row,) = bench.rack.faults()
    assert (row["count"], row["percent"], row["seed"]) == (None, 30.0, 5)
