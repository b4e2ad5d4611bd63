"""The nspawn chassis: from PXE over the agent protocol to a running systemd, and what its power does."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import pytest

from drivers.ssh import generate_host_key
from levier.lab.spec import ChassisKind
from tests.lab.conftest import Bench
from tests.lab.host_image import RAW_SIZE
from tests.lab.provisioning import seed_archive, wait_until

pytestmark = pytest.mark.root
ADDRESS = "10.77.0.11"
NODE = "a1-01"
_NETWORK = f"[Match]\nName=eth0\n[Network]\nAddress={ADDRESS}/24\nGateway=10.77.0.1\n"


class Guest:
    """Root on the machine, over ssh from inside the lab."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._login = generate_host_key("login")
        self._host = generate_host_key("host")
        self._key = bench.rack.directory / "nodes" / NODE / "login"
        self._key.touch(mode=0o600)
        self._key.write_text(self._login.private_openssh)
        self._known = bench.rack.directory / "nodes" / NODE / "known"
        self._known.write_text(f"{ADDRESS} {self._host.public_line}\n")

    def seed(self) -> bytes:
        unit = "etc/systemd/system/multi-user.target.wants/systemd-networkd.service"
        return seed_archive(
            {
                "etc/systemd/network/10-eth0.network": _NETWORK.encode(),
                "root/.ssh/authorized_keys": f"{self._login.public_line}\n".encode(),
                "etc/ssh/ssh_host_ed25519_key": self._host.private_openssh.encode(),
                "etc/hostname": b"a1-01\n",
            },
            {unit: "/lib/systemd/system/systemd-networkd.service"},
        )

    def ssh(self, command: str) -> subprocess.CompletedProcess[str]:
        options = ["-o", f"UserKnownHostsFile={self._known}", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5"]
        argv = self._bench.rack.inside("ssh", "-F", "none", "-i", str(self._key), *options, f"root@{ADDRESS}", command)
        return subprocess.run(argv, capture_output=True, text=True, timeout=60)

    def boot_id(self) -> str:
        done = self.ssh("cat /proc/sys/kernel/random/boot_id /proc/1/comm")
        return done.stdout if done.returncode == 0 else ""


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    made = make_bench(chassis=ChassisKind.NSPAWN, nodes=1, disk_gib=2)
    made.service.agent_script()
    made.service.entry_for(made.spec.nodes[0].mac)
    return made


def _pxe(bench: Bench) -> None:
    bench.ipmi(NODE, "chassis", "bootdev", "pxe")
    bench.ipmi(NODE, "chassis", "power", "on")


def test_from_power_off_to_ssh_and_back(bench: Bench, host_image: bytes) -> None:
    guest = Guest(bench)
    bench.service.order_image(host_image, raw_size_bytes=RAW_SIZE, seed=guest.seed())
    bench.service.orders.append("action=reboot\n")
    _pxe(bench)
    wait_until(guest.boot_id, what="ssh on the host", timeout_s=120)

    inventory = dict(line.split("=", 1) for line in bench.service.claims[0].splitlines())
    assert inventory["serial"] == bench.spec.nodes[0].serial
    assert inventory["disk.vda.size_bytes"] == str(2 << 30)
    assert inventory["disk.vda.serial"] == "LVD0001"
    assert inventory["nic.eth0.mac"] == bench.spec.nodes[0].mac
    stages = ["write/started", "write/done", "verify/started", "verify/done", "seed/started", "seed/done"]
    assert bench.service.stages() == [*stages, "reboot/started"]
    assert guest.ssh("cat /proc/1/comm").stdout == "systemd\n"
    assert int(guest.ssh("df --output=size -k / | tail -1").stdout) > 1_800_000  # grown over the 2 GiB disk
    assert bench.boots(NODE) == [("pxe", "power-on"), ("disk", "guest-reboot")]
    written = bench.rack.events(node=NODE, kind="disk-write")
    assert [e.detail["image"] for e in written] == [True]
    assert written[0].detail["bytes"] > 100 << 20
    status = bench.rack.node(NODE)
    assert (status["image_writes"], status["address"], status["booted_from"]) == (1, ADDRESS, "disk")

    guest.ssh("systemctl reboot")
    bench.wait_for_boots(NODE, 3)
    wait_until(guest.boot_id, what="ssh after the guest's reboot")
    assert bench.boots(NODE)[2] == ("disk", "guest-reboot")

    bench.ipmi(NODE, "chassis", "power", "reset")
    bench.wait_for_boots(NODE, 4)
    wait_until(guest.boot_id, what="ssh after the BMC's reset")
    assert bench.boots(NODE)[3] == ("disk", "bmc-reset")

    bench.ipmi(NODE, "chassis", "power", "soft")
    bench.wait_for_power(NODE, "off")
    assert bench.powers(NODE) == [("on", "bmc"), ("off", "guest-power-off")]
    assert guest.boot_id() == ""

    bench.ipmi(NODE, "chassis", "power", "on")
    wait_until(guest.boot_id, what="ssh after power-on")
    bench.ipmi(NODE, "chassis", "power", "off")
    bench.wait_for_power(NODE, "off")
    assert bench.powers(NODE)[2:] == [("on", "bmc"), ("off", "bmc")]
    assert bench.rack.events(node=NODE, kind="crash") == []


def test_a_wrong_checksum_is_reported_with_its_cause(bench: Bench, host_image: bytes) -> None:
    bench.service.order_image(host_image, raw_size_bytes=RAW_SIZE, seed=b"", image_sha256="0" * 64)
    bench.service.orders.append("action=power-off\n")
    _pxe(bench)
    wait_until(lambda: bench.powers(NODE)[-1:] == [("off", "guest-power-off")], what="power off")
    assert bench.service.stages() == ["write/started", "write/failed"]
    assert "checksum mismatch: expected 0000" in bench.service.reports[-1]["detail"]


def test_a_disk_too_small_is_reported_and_not_written(bench: Bench) -> None:
    bench.service.order_image(b"x", raw_size_bytes=3 << 30, seed=b"")
    bench.service.orders.append("action=power-off\n")
    _pxe(bench)
    wait_until(lambda: "write/failed" in bench.service.stages(), what="a report")
    assert "the image needs 3221225472 bytes" in bench.service.reports[-1]["detail"]
    bench.wait_for_power(NODE, "off")
    assert bench.rack.events(node=NODE, kind="disk-write") == []


def test_an_empty_disk_is_no_bootable_device_and_the_machine_stays_on(bench: Bench) -> None:
    bench.ipmi(NODE, "chassis", "power", "on")
    wait_until(lambda: bench.rack.events(node=NODE, kind="no-bootable-device"), what="the event")
    assert bench.rack.node(NODE)["power"] == "on"
    bench.ipmi(NODE, "chassis", "power", "off")
    bench.wait_for_power(NODE, "off")


def test_without_a_boot_entry_the_machine_falls_back_to_its_disk(bench: Bench) -> None:
    del bench.service.files[f"/ipxe/{bench.spec.nodes[0].mac.replace(':', '-')}"]
    _pxe(bench)
    wait_until(lambda: bench.rack.events(node=NODE, kind="no-bootable-device"), what="the event")
    asked = [(e.detail["url"].rpartition("/")[2], e.detail["status"]) for e in bench.rack.events(kind="netboot-script")]
    assert asked == [("boot.ipxe", 200), (bench.spec.nodes[0].mac.replace(":", "-"), 404)]


def test_a_killed_firmware_is_a_crash_and_the_rack_goes_on(bench: Bench) -> None:
    _pxe(bench)
    wait_until(lambda: bench.service.claims, what="a claim")
    os.kill(bench.rack.node(NODE)["pid"], 9)
    bench.wait_for_power(NODE, "off")
    assert len(bench.rack.events(node=NODE, kind="crash")) == 1
    _pxe(bench)
    wait_until(lambda: len(bench.service.claims) == 2, what="a second claim")
