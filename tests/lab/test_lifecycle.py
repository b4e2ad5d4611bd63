"""Bringing labs up and down: what they leave behind, also when their daemon is killed."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from levier.domain.errors import Conflict, NotFound
from levier.lab.cli import app
from levier.lab.network import namespace_path
from levier.lab.rack import Rack
from levier.lab.spec import ChassisKind, RackSpec, plan_rack
from levier.services.sitefile import load_site
from tests.lab.conftest import Bench, fresh_name
from tests.lab.provisioning import wait_until

pytestmark = pytest.mark.root


def _lines(*argv: str) -> set[str]:
    return set(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines())


class Traces:
    """What of a lab is visible in the kernel, looked up by its name, directory and processes."""

    def __init__(self, rack: Rack) -> None:
        self._rack = rack

    def namespaces(self) -> list[str]:
        return [line for line in _lines("ip", "netns", "list") if line.split()[0] == f"levier-{self._rack.name}"]

    def cgroups(self) -> list[Path]:
        return [p for p in Path("/sys/fs/cgroup").rglob(f"levier-lab-{self._rack.name}") if p.is_dir()]

    def pids(self) -> set[int]:
        found: set[int] = set()
        for group in self.cgroups():
            for procs in group.rglob("cgroup.procs"):
                found |= {int(pid) for pid in procs.read_text().split()}
        return found

    def mounts(self) -> list[str]:
        """Of all mount namespaces that any process is in."""
        found = []
        for table in Path("/proc").glob("[0-9]*/mountinfo"):
            try:
                found += [row for row in table.read_text().splitlines() if str(self._rack.directory) in row]
            except OSError:
                continue  # the process ended while we looked
        return found

    def loop_devices(self) -> list[str]:
        return [row for row in _lines("losetup", "--list", "--noheadings") if str(self._rack.directory) in row]

    def containers(self) -> list[Path]:
        return list(Path("/run/systemd/nspawn").rglob(f"*levier-{self._rack.name}-*"))

    def all(self) -> dict[str, object]:
        return {
            "namespaces": self.namespaces(),
            "cgroups": self.cgroups(),
            "mounts": self.mounts(),
            "loop devices": self.loop_devices(),
            "containers": self.containers(),
            "directory": self._rack.directory.exists(),
        }


NOTHING = {"namespaces": [], "cgroups": [], "mounts": [], "loop devices": [], "containers": [], "directory": False}


@pytest.fixture
def rack(tmp_path: Path) -> Iterator[Rack]:
    made = Rack(name=fresh_name(), directory=tmp_path / "lab")
    yield made
    made.down()


def _spec(rack: Rack, *, nodes: int = 1, chassis: ChassisKind = ChassisKind.QEMU) -> RackSpec:
    return plan_rack(name=rack.name, chassis=chassis, nodes=nodes, disk_gib=2)


def _invoke(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == status, result.output
    return result.output


def test_up_status_events_down_on_the_command_line(rack: Rack) -> None:
    links_before = _lines("ip", "-o", "link")
    where = ("--name", rack.name, "--dir", str(rack.directory))
    said = _invoke("up", *where, "--nodes", "3", "--disk-gib", "1")
    assert f"ip netns exec levier-{rack.name}" in said
    status = json.loads(_invoke("status", *where, "--json"))
    assert (status["daemon"], status["chassis"], status["bridge"]) == ("running", "qemu", "br-prov")
    assert [(n["name"], n["zone"], n["power"]) for n in status["nodes"]] == [
        ("a1-01", "a", "off"),
        ("a1-02", "a", "off"),
        ("b1-01", "b", "off"),
    ]
    assert len({n["mac"] for n in status["nodes"]}) == 3
    for private in (rack.layout.credentials, rack.layout.control):
        assert stat.S_IMODE(private.stat().st_mode) == 0o600
    events = json.loads(_invoke("events", *where, "--json"))
    assert [(event["seq"], event["kind"]) for event in events] == [(1, "lab")]
    assert re.search(r"1 \S+ - +lab +event=up", _invoke("events", *where))

    assert "error: the lab" in _invoke("up", *where, status=1)
    assert "levier lab down" in _invoke("up", *where, status=1)
    assert "down" in _invoke("down", *where)
    assert Traces(rack).all() == NOTHING
    assert _lines("ip", "-o", "link") == links_before
    assert "was not up" in _invoke("down", *where)
    assert "there is no lab" in _invoke("status", *where, status=1)


def test_the_site_file_is_one_that_levier_takes(rack: Rack) -> None:
    rack.up(_spec(rack, nodes=3))
    site = load_site(rack.layout.site.read_text(), str(rack.layout.site)).site
    assert [node.name for node in site.nodes] == ["a1-01", "a1-02", "b1-01"]
    assert [str(node.bmc.address) for node in site.nodes] == ["127.0.77.11", "127.0.77.12", "127.0.77.13"]


def test_a_second_lab_of_that_name_is_refused_unless_it_replaces(rack: Rack, tmp_path: Path) -> None:
    rack.up(_spec(rack))
    pid = rack.status()["daemon_pid"]
    with pytest.raises(Conflict, match="is up or was not taken down") as refused:
        rack.up(_spec(rack))
    assert "--replace" in refused.value.hint
    with pytest.raises(Conflict):
        Rack(name=rack.name, directory=tmp_path / "elsewhere").up(_spec(rack))
    assert rack.status()["daemon_pid"] == pid
    assert not (tmp_path / "elsewhere").exists()
    rack.up(_spec(rack, nodes=2), replace=True)
    assert len(rack.status()["nodes"]) == 2
    assert rack.status()["daemon_pid"] != pid


def test_two_labs_stand_side_by_side(rack: Rack, tmp_path: Path) -> None:
    other = Rack(name=fresh_name(), directory=tmp_path / "other")
    try:
        rack.up(_spec(rack))
        other.up(_spec(other))
        assert rack.status()["daemon"] == other.status()["daemon"] == "running"
        rack.down()
        assert other.status()["daemon"] == "running"
    finally:
        other.down()
    assert Traces(other).all() == NOTHING


@pytest.mark.parametrize("chassis", [ChassisKind.QEMU, ChassisKind.NSPAWN])
def test_down_after_the_daemon_was_killed_leaves_nothing(
    make_bench: Callable[..., Bench], host_image: bytes, chassis: ChassisKind
) -> None:
    inotify = Path("/proc/sys/fs/inotify/max_user_instances")
    links_before = _lines("ip", "-o", "link")
    bench = make_bench(chassis=chassis, nodes=2, disk_gib=1)
    traces = Traces(bench.rack)
    if chassis is ChassisKind.NSPAWN:
        # One machine runs an operating system from its disk: a mount, a loop device, a container.
        image = bench.rack.directory.parent / "image.zst"
        image.write_bytes(host_image)
        disk = bench.rack.layout.disk("a1-01")
        subprocess.run(["zstd", "-dqf", "--no-sparse", str(image), "-o", str(disk)], check=True)
    for node in ("a1-01", "a1-02"):
        bench.ipmi(node, "chassis", "power", "on")
    if chassis is ChassisKind.NSPAWN:
        wait_until(lambda: bench.rack.events(kind="os-start"), what="an operating system")
        wait_until(traces.loop_devices, what="a loop device")
        assert traces.mounts()
    os.kill(bench.rack.status()["daemon_pid"], signal.SIGKILL)
    wait_until(lambda: bench.rack.status()["daemon"] == "dead", what="the daemon's end")

    # What is true without the daemon: the machines run on, and the ledger is there.
    assert [node["power"] for node in bench.rack.status()["nodes"]] == ["on", "on"]
    assert [node["boots"] for node in bench.rack.status()["nodes"]] == [1, 1]
    assert bench.rack.events(kind="power")
    pids = traces.pids()
    assert len(pids) >= 2

    assert bench.rack.down()
    assert traces.all() == NOTHING
    assert not [pid for pid in pids if _runs(pid)]
    assert _lines("ip", "-o", "link") == links_before
    assert int(inotify.read_text()) >= 128
    assert not bench.rack.down()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_down_works_by_name_when_the_directory_is_gone(rack: Rack) -> None:
    rack.up(_spec(rack))
    subprocess.run(["rm", "-rf", str(rack.directory)], check=True)
    assert rack.down()
    assert Traces(rack).all() == NOTHING


def test_down_ends_what_was_brought_into_the_namespace(rack: Rack) -> None:
    rack.up(_spec(rack))
    stranger = subprocess.Popen(rack.inside("sleep", "600"))
    wait_until(lambda: namespace_path(rack.spec().namespace).exists() and _in_namespace(rack, stranger.pid), what="it")
    rack.down()
    assert stranger.wait(timeout=10) == -signal.SIGTERM
    assert Traces(rack).all() == NOTHING


def _in_namespace(rack: Rack, pid: int) -> bool:
    return str(pid) in _lines("ip", "netns", "pids", rack.spec().namespace)


def test_down_keeps_the_ledger_and_the_consoles_when_asked(rack: Rack) -> None:
    rack.up(_spec(rack))
    rack.down(keep=True)
    assert [event.detail["event"] for event in rack.events()] == ["up", "stopped"]
    assert not rack.layout.credentials.exists()
    assert not rack.layout.disk("a1-01").exists()
    rack.up(_spec(rack))
    assert [event.seq for event in rack.events()] == [1, 2, 3]


def test_a_lab_that_cannot_start_leaves_nothing(rack: Rack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(Exception, match="did not come up"):
        rack.up(_spec(rack))
    assert Traces(rack).all() == NOTHING


def test_the_inotify_limit_is_raised_for_nspawn_and_restored_with_the_last_lab(rack: Rack, tmp_path: Path) -> None:
    limit = Path("/proc/sys/fs/inotify/max_user_instances")
    other = Rack(name=fresh_name(), directory=tmp_path / "other")
    before = int(limit.read_text())
    try:
        rack.up(_spec(rack, nodes=2, chassis=ChassisKind.NSPAWN))
        other.up(_spec(other, nodes=1, chassis=ChassisKind.NSPAWN))
        assert int(limit.read_text()) == before + 24
        rack.down()
        assert int(limit.read_text()) == before + 8
    finally:
        other.down()
    assert int(limit.read_text()) == before


def test_status_without_a_lab_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as missing:
        Rack(name="nothing", directory=tmp_path).status()
    assert "levier lab up" in missing.value.hint
