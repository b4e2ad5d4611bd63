"""The stub chassis: from PXE over the agent protocol to an SSH host, what its power does, and a hundred at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from drivers.baseline import BaselineSpec, HostEntry, SysctlSetting, apply_baseline, restore_baseline, verify_baseline
from drivers.ssh import generate_host_key, open_host
from levier.domain.errors import AuthFailed, Conflict, OutcomeUnknown, Unreachable
from levier.domain.ssh import RemoteHost
from levier.lab.rack import Rack
from levier.lab.spec import ChassisKind
from levier.lab.teardown import daemons
from tests.lab.conftest import Bench
from tests.lab.provisioning import wait_until
from tests.rig.stub_host import RAW_SIZE, StubLogin, answers, boot_from_network, free_ports, login_of, order_host

# They need no root; the user that CI runs them as has it, and test_demo_stub.py shows that none is needed.
pytestmark = pytest.mark.root
NODE = "a1-01"


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench(chassis=ChassisKind.STUB, nodes=1, disk_gib=1, ports=free_ports())


@pytest.fixture
def login(bench: Bench) -> StubLogin:
    return login_of(bench.spec)


def _pxe(bench: Bench) -> None:
    bench.ipmi(NODE, "chassis", "bootdev", "pxe")
    bench.ipmi(NODE, "chassis", "power", "on")


@contextmanager
def _deployed(bench: Bench, login: StubLogin) -> Iterator[RemoteHost]:
    order_host(bench.service, bench.rack, login)
    _pxe(bench)
    wait_until(lambda: answers(login), what="ssh")
    host = open_host(login.target())
    try:
        yield host
    finally:
        host.close()


def test_from_power_off_to_ssh_and_back(bench: Bench, login: StubLogin) -> None:
    with _deployed(bench, login) as host:
        inventory = dict(line.split("=", 1) for line in bench.service.claims[0].splitlines())
        assert inventory["serial"] == bench.spec.nodes[0].serial
        assert inventory["disk.vda.size_bytes"] == str(1 << 30)
        assert inventory["nic.eth0.mac"] == bench.spec.nodes[0].mac
        stages = ["write/started", "write/done", "verify/started", "verify/done", "seed/started", "seed/done"]
        assert bench.service.stages() == [*stages, "reboot/started"]
        assert bench.boots(NODE) == [("pxe", "power-on"), ("disk", "guest-reboot")]
        written = bench.rack.events(node=NODE, kind="disk-write")
        assert [e.detail["image"] for e in written] == [True]
        assert written[0].detail["bytes"] > 50_000
        status = bench.rack.node(NODE)
        assert (status["image_writes"], status["address"], status["booted_from"]) == (1, login.address, "disk")
        facts = host.facts()
        assert (facts.hostname, facts.os_id) == (NODE, "levier-stub")

        host.upload(b"kept", "/var/lib/kept")
        host.upload(b"lost", "/run/lost")
        first = facts.boot_id
        assert host.reboot_and_wait(timeout_s=30) != first
        assert bench.boots(NODE)[2:] == [("disk", "guest-reboot")]
        assert host.facts().machine_id == facts.machine_id
        assert host.download("/run/lost") is None
        kept = host.download("/var/lib/kept")
        assert kept is not None
        assert kept.content == b"kept"

        bench.ipmi(NODE, "chassis", "power", "reset")
        bench.wait_for_boots(NODE, 4)
        host.wait_until_up(timeout_s=30)
        bench.ipmi(NODE, "chassis", "power", "soft")
        bench.wait_for_power(NODE, "off")
        assert bench.powers(NODE) == [("on", "bmc"), ("off", "guest-power-off")]
        with pytest.raises(Unreachable):
            host.run("true")
        bench.ipmi(NODE, "chassis", "power", "on")
        wait_until(lambda: answers(login), what="ssh after power-on")
        bench.ipmi(NODE, "chassis", "power", "off")
        bench.wait_for_power(NODE, "off")
        assert bench.powers(NODE)[2:] == [("on", "bmc"), ("off", "bmc")]
        assert bench.rack.events(node=NODE, kind="crash") == []


def test_a_baseline_is_applied_found_and_taken_back(bench: Bench, login: StubLogin) -> None:
    spec = BaselineSpec(
        revision=3,
        hostname="renamed",
        domain="example.net",
        hosts=(HostEntry(address=login.address, names=("renamed.example.net", "renamed")),),
        timezone="Europe/Paris",
        operator_keys=(generate_host_key("operator").public_line,),
        sysctls=(SysctlSetting(key="net.ipv4.ip_forward", value="1"), SysctlSetting(key="vm.swappiness", value="7")),
    )
    own = {path: Path("/proc/sys", path).read_text() for path in ("net/ipv4/ip_forward", "vm/swappiness")}
    with _deployed(bench, login) as host:
        before = host.run("uname -n; cat /proc/sys/vm/swappiness; readlink /etc/localtime").stdout
        applied = apply_baseline(host, spec)
        assert (
            {"hostname", "sysctl net/ipv4/ip_forward", "sysctl vm/swappiness"} >= set(applied.effects) >= {"hostname"}
        )
        assert verify_baseline(host, spec) == ()
        assert apply_baseline(host, spec).unchanged
        host.reboot_and_wait(timeout_s=30)
        assert verify_baseline(host, spec) == ()
        restore_baseline(host, applied.previous)
        assert host.run("uname -n; cat /proc/sys/vm/swappiness; readlink /etc/localtime").stdout == before
    assert {path: Path("/proc/sys", path).read_text() for path in own} == own


def test_an_operators_key_of_the_baseline_logs_in(bench: Bench, login: StubLogin) -> None:
    operator = generate_host_key("operator")
    with _deployed(bench, login) as host:
        stranger = open_host(login.target(login=operator))
        with pytest.raises(AuthFailed, match="was refused"):
            stranger.run("true")
        apply_baseline(host, BaselineSpec(revision=1, hostname=NODE, operator_keys=(operator.public_line,)))
        assert stranger.run("id -un").stdout == "root\n"
        stranger.close()


def test_another_host_key_is_noticed(bench: Bench, login: StubLogin) -> None:
    with _deployed(bench, login):
        deceived = open_host(login.target(host_key=generate_host_key("other")))
        with pytest.raises(AuthFailed, match="unexpected host key"):
            deceived.run("true")


def _processes(tag: str) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if command[:2] == [b"sleep", tag.encode()]:
            found.append(int(process.name))
    return found


def _running(host: RemoteHost, command: str) -> threading.Thread:
    """The command runs in a thread of its own; that it is cut off is its purpose."""

    def run() -> None:
        with pytest.raises(OutcomeUnknown):
            host.run(command, timeout_s=60)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize("how", ["power", "connection", "daemon"])
def test_what_a_command_started_ends_with_power_connection_and_daemon(bench: Bench, login: StubLogin, how: str) -> None:
    tag = f"9{os.getpid():07d}.{('power', 'connection', 'daemon').index(how)}"
    with _deployed(bench, login) as host:
        # One that left its process group and session, one that was left to init, and the command itself.
        thread = _running(host, f"setsid sleep {tag} & (sleep {tag} &) ; sleep {tag}")
        wait_until(lambda: len(_processes(tag)) == 3, what="three processes")
        if how == "power":
            bench.ipmi(NODE, "chassis", "power", "off")
        elif how == "connection":
            host.close()
        else:
            (daemon,) = daemons(bench.rack.layout)
            os.kill(daemon, signal.SIGKILL)
        wait_until(lambda: not _processes(tag), what="their end", timeout_s=10)
        thread.join(timeout=30)
        assert not thread.is_alive()


def test_down_after_the_daemon_was_killed_leaves_nothing(bench: Bench, login: StubLogin) -> None:
    with _deployed(bench, login) as host:
        tag = f"8{os.getpid():07d}"
        thread = _running(host, f"sleep {tag}")
        wait_until(lambda: _processes(tag), what="the command")
        (daemon,) = daemons(bench.rack.layout)
        os.kill(daemon, signal.SIGKILL)
        thread.join(timeout=30)
        assert not thread.is_alive()
    status = bench.rack.status()
    assert status["daemon"] == "dead"
    assert status["nodes"][0]["power"] == "off"
    assert (status["nodes"][0]["boots"], status["nodes"][0]["image_writes"]) == (2, 1)
    assert bench.rack.down() is True
    assert not bench.rack.directory.exists()
    assert bench.rack.down() is False


def test_down_finds_a_daemon_whose_directory_is_gone(bench: Bench) -> None:
    bench.rack.layout.spec.unlink()
    bench.rack.layout.control.unlink()
    assert len(daemons(bench.rack.layout)) == 1
    assert bench.rack.down() is True
    assert daemons(bench.rack.layout) == []


def test_a_second_rack_on_the_same_ports_is_refused_with_the_way_out(bench: Bench, tmp_path: Path) -> None:
    other = Rack(name="other", directory=tmp_path / "other")
    with pytest.raises(Conflict, match=rf"UDP port {bench.spec.nodes[0].bmc_port}") as refused:
        other.up(bench.spec)
    assert "--bmc-port" in refused.value.hint
    assert not other.directory.exists()


def test_a_wrong_checksum_is_reported_with_its_cause(bench: Bench, login: StubLogin) -> None:
    order_host(bench.service, bench.rack, login, image_sha256="0" * 64)
    bench.service.orders[-1] = "action=power-off\n"
    _pxe(bench)
    wait_until(lambda: bench.powers(NODE)[-1:] == [("off", "guest-power-off")], what="power off")
    assert bench.service.stages() == ["write/started", "write/failed"]
    assert "checksum mismatch: expected 0000" in bench.service.reports[-1]["detail"]
    assert bench.rack.node(NODE)["image_writes"] == 1


@pytest.mark.parametrize(
    ("image", "told"),
    [(b"not compressed at all", "the image cannot be unpacked"), (b"", "no partition table")],
    ids=["no zstd", "an empty disk"],
)
def test_a_senseless_image_is_refused(bench: Bench, login: StubLogin, image: bytes, told: str, tmp_path: Path) -> None:
    bench.service.agent_script()
    bench.service.entry_for(login.mac)
    if not image:
        image = subprocess.run(["zstd", "-cq"], input=bytes(1 << 20), capture_output=True, check=True).stdout
    bench.service.order_image(image, raw_size_bytes=1 << 20, seed=login.seed())
    bench.service.orders.append("action=power-off\n")
    _pxe(bench)
    wait_until(lambda: bench.powers(NODE)[-1:] == [("off", "guest-power-off")], what="power off")
    failed = [report for report in bench.service.reports if report["state"] == "failed"]
    assert len(failed) == 1
    assert told in failed[0]["detail"]


def test_a_disk_too_small_is_reported_and_not_written(bench: Bench, login: StubLogin) -> None:
    order_host(bench.service, bench.rack, login, raw_size_bytes=2 << 30)
    bench.service.orders[-1] = "action=power-off\n"
    _pxe(bench)
    wait_until(lambda: bench.powers(NODE)[-1:] == [("off", "guest-power-off")], what="power off")
    assert "the image needs 2147483648 bytes" in bench.service.reports[-1]["detail"]
    assert bench.rack.events(node=NODE, kind="disk-write") == []


def test_an_empty_disk_is_no_bootable_device_and_the_machine_stays_on(bench: Bench) -> None:
    bench.ipmi(NODE, "chassis", "power", "on")
    wait_until(lambda: bench.rack.events(node=NODE, kind="no-bootable-device"), what="the event")
    assert bench.rack.node(NODE)["power"] == "on"
    bench.ipmi(NODE, "chassis", "power", "off")
    bench.wait_for_power(NODE, "off")


def test_without_a_boot_entry_the_machine_falls_back_to_its_disk(bench: Bench, login: StubLogin) -> None:
    bench.service.agent_script()
    _pxe(bench)
    wait_until(lambda: bench.rack.events(node=NODE, kind="no-bootable-device"), what="the event")
    asked = [(e.detail["url"].rpartition("/")[2], e.detail["status"]) for e in bench.rack.events(kind="netboot-script")]
    assert asked == [("boot.ipxe", 200), (login.mac.replace(":", "-"), 404)]


def test_power_ends_a_write_at_any_moment(bench: Bench, login: StubLogin) -> None:
    """A boot service that never ends its answer: the machine writes until its power goes, and can be booted again."""
    order_host(bench.service, bench.rack, login)
    released = bench.service.stall("/images/")
    _pxe(bench)
    wait_until(lambda: bench.service.stages() == ["write/started"], what="the write")
    bench.ipmi(NODE, "chassis", "power", "off")
    bench.wait_for_power(NODE, "off")
    released.set()
    bench.service.orders.clear()
    assert bench.rack.events(kind="crash") == []
    order_host(bench.service, bench.rack, login)
    _pxe(bench)
    wait_until(lambda: answers(login), what="ssh")


def test_a_hundred_machines_boot_at_once_in_one_process(
    make_bench: Callable[..., Bench], capsys: pytest.CaptureFixture[str]
) -> None:
    count = 100
    bench = make_bench(chassis=ChassisKind.STUB, nodes=count, disk_gib=1, ports=free_ports())
    (daemon,) = daemons(bench.rack.layout)
    rest = _cpu_s(daemon)
    time.sleep(2.0)  # what an idle rack costs is what it costs in some length of time
    idle_share = (_cpu_s(daemon) - rest) / 2.0
    logins = [login_of(bench.spec, index) for index in range(count)]
    _serve_all(bench, logins)
    before, began = _cpu_s(daemon), time.monotonic()
    _power_on_all(bench)
    wait_until(lambda: len(bench.rack.events(kind="os-start")) == count, what="hosts", timeout_s=240)
    wait_until(lambda: all(answers(login) for login in logins), what="SSH servers", timeout_s=60)
    took_s, cpu_s = time.monotonic() - began, _cpu_s(daemon) - before
    rss_mib = _rss_mib(daemon)
    figures = {"hosts": count, "seconds": round(took_s, 1), "cpu_s_per_host": round(cpu_s / count, 3)}
    with capsys.disabled():
        print(f"\n{json.dumps(figures | {'rss_mib': rss_mib, 'idle_share_of_a_core': round(idle_share, 3)})}")
    assert Path(f"/proc/{daemon}/task").exists()
    assert len(list(Path(f"/proc/{daemon}/task").iterdir())) < 10
    assert _children(daemon) == []
    assert rss_mib < 400
    assert cpu_s / count < 0.3
    assert [n["image_writes"] for n in bench.rack.status()["nodes"]] == [1] * count
    with ExitStack() as hosts:
        for login in logins[:: count // 5]:
            host = open_host(login.target())
            hosts.callback(host.close)
            assert host.run("uname -n").stdout.strip() == login.name


def _cpu_s(pid: int) -> float:
    """Processor time of the process and of its children that have ended, in seconds (proc(5))."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(words[index]) for index in (11, 12, 13, 14)) / os.sysconf("SC_CLK_TCK")


def _rss_mib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) // 1024


def _children(pid: int) -> list[int]:
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text().split()]


def _serve_all(bench: Bench, logins: list[StubLogin]) -> None:
    """Every machine is told to write the rack's image with its own seed."""
    bench.service.agent_script()
    image = bench.rack.layout.image.read_bytes()
    for login in logins:
        bench.service.entry_for(login.mac)
        bench.service.order_for(login.mac, image, raw_size_bytes=RAW_SIZE, seed=login.seed())


def _power_on_all(bench: Bench) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda node: boot_from_network(bench.rack, node.name), bench.spec.nodes))
