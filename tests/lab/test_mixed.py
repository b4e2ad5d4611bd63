"""A rack with machines of both kinds: containers and QEMU on one bridge, below the same BMCs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from levier.lab.cli import app
from levier.lab.packages.upstream import discover_upstreams
from levier.lab.rack import Rack
from levier.lab.spec import ChassisKind, Difference, MirrorSpec
from levier.lab.sysctl import inotify_limit
from tests.lab.conftest import Bench, fresh_name

pytestmark = pytest.mark.root
CONTAINER, EMULATED = "a1-01", "b1-01"


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    mirror = MirrorSpec(security=True, check_valid_until=discover_upstreams().check_valid_until)
    qemu = Difference(chassis=ChassisKind.QEMU, memory_mib=320, cpus=2)
    return make_bench(chassis=ChassisKind.NSPAWN, nodes=3, disk_gib=1, machines={EMULATED: qemu}, mirror=mirror)


def _lab(bench: Bench, *arguments: str, status: int = 0) -> str:
    where = ("--name", bench.rack.name, "--dir", str(bench.rack.directory))
    result = CliRunner().invoke(app, [*arguments, *where])
    assert result.exit_code == status, result.output
    return result.output


def _scripts(bench: Bench, node: str) -> list[str]:
    """Which firmware fetched the boot script: the two kinds say it differently."""
    return [str(e.detail["status"]) for e in bench.rack.events(node=node, kind="netboot-script")]


def test_both_kinds_boot_from_the_same_network_and_obey_the_same_commands(bench: Bench) -> None:
    bench.service.script("chain /of/${serial}")
    serials = {node.name: node.serial for node in bench.spec.nodes}
    for node in (CONTAINER, EMULATED):
        bench.service.script("reboot", path=f"/of/{serials[node]}")
    for node in (CONTAINER, EMULATED):
        bench.ipmi(node, "chassis", "bootdev", "pxe")
        bench.ipmi(node, "chassis", "power", "on")
    for node in (CONTAINER, EMULATED):
        bench.wait_for_boots(node, 2)
        assert bench.boots(node) == [("pxe", "power-on"), ("disk", "guest-reboot")]
        bench.ipmi(node, "chassis", "power", "off")
        bench.wait_for_power(node, "off")
        assert bench.powers(node) == [("on", "bmc"), ("off", "bmc")]
        assert bench.rack.events(node=node, kind="crash") == []
    # Only the container's firmware is the lab's own, and writes into the ledger; iPXE was QEMU's.
    assert (_scripts(bench, CONTAINER), _scripts(bench, EMULATED)) == (["200", "200"], [])
    asked = [path for _, path in bench.service.requests if path.startswith("/of/")]
    assert sorted(asked) == [f"/of/{serials[node]}" for node in (CONTAINER, EMULATED)]


def test_status_tells_which_is_which_and_each_has_the_faults_of_its_kind(bench: Bench) -> None:
    status = json.loads(_lab(bench, "status", "--json"))
    assert (status["chassis"], status["mirror_state"]) == ("mixed", "running")
    told = [(n["name"], n["chassis"], n["cpus"]) for n in status["nodes"]]
    assert told == [("a1-01", "nspawn", 1), ("a1-02", "nspawn", 1), ("b1-01", "qemu", 2)]
    assert EMULATED in next(line for line in _lab(bench, "status").splitlines() if " qemu " in line)

    assert "a1-01" in _lab(bench, "inject", CONTAINER, "disk-full")
    assert "b1-01" in _lab(bench, "inject", EMULATED, "clock-off")
    refused = _lab(bench, "inject", EMULATED, "disk-full", status=1)
    assert "the chassis qemu cannot do disk-full" in refused
    refused = _lab(bench, "inject", "all", "clock-off", status=1)
    assert "the chassis nspawn cannot do clock-off" in refused
    assert "b1-01 can do it" in refused
    assert sorted((row["node"], row["kind"]) for row in bench.rack.faults()) == [
        ("a1-01", "disk-full"),
        ("b1-01", "clock-off"),
    ]


def test_only_what_a_kind_needs_is_made(bench: Bench) -> None:
    shown = bench.rack.inside("ip", "-o", "link", "show", "type", "tun")
    taps = subprocess.run(shown, capture_output=True, text=True, check=True).stdout
    assert "tap2:" in taps
    assert "tap0:" not in taps
    assert bench.rack.layout.disk(EMULATED).stat().st_size == 1 << 30


def test_a_mixture_that_cannot_be_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    name, limit = fresh_name(), inotify_limit()
    where = ("--name", name, "--dir", str(tmp_path / "lab"))
    result = CliRunner().invoke(app, ["up", *where, "--chassis", "nspawn", "--machine", "c1-01:chassis=qemu"])
    assert result.exit_code == 1
    assert "there is no machine c1-01" in result.output
    assert not (tmp_path / "lab").exists()
    assert inotify_limit() == limit
    assert not Rack(name=name, directory=tmp_path / "lab").down()
