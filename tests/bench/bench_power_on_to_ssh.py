"""Power-on → SSH with Levier, as a ratio to the same node booted by a hand-written script with no orchestrator.

The script is what an administrator would write: ipmitool, dnsmasq, a small web server, ssh in a loop. Both sides boot
the same firmware, ramdisk and image on the same virtual machine, one after the other. Both clocks start at the chassis'
own record of the power-on and end at an SSH login with a verified host key.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from drivers.images.builder import build_image
from drivers.images.catalog import BuiltImage
from drivers.images.recipe import KernelFlavour, recipe_named
from drivers.images.seed import SeedSpec, render_seed
from drivers.ramdisk import BuiltRamdisk, build_ramdisk
from drivers.ssh import KeyPair, generate_host_key
from levier.lab.rack import Rack
from levier.lab.spec import ChassisKind, plan_rack
from tests.lab.provisioning import BootService, Dnsmasq

NODE = "a1-01"
ADDRESS = "10.77.0.10"
NAME = "bench"
PORTS = {"LEVIER_API_PORT": "38420", "LEVIER_PREFECT_PORT": "34200", "LEVIER_BOOT_PORT": "38480"}
CACHE = Path(os.environ.get("LEVIER_TEST_CACHE", str(Path.home() / ".cache" / "levier"))) / "images"
pytestmark = [pytest.mark.root, pytest.mark.timeout(2400)]


@pytest.fixture
def rack() -> Iterator[Rack]:
    rack = Rack.at(name=NAME)
    rack.up(plan_rack(name=NAME, chassis=ChassisKind.QEMU, nodes=1), replace=True)
    try:
        yield rack
    finally:
        rack.down()


def _powered_on_at(rack: Rack) -> datetime:
    """When the chassis was switched on the last time, by its own ledger."""
    events = [e for e in rack.events(node=NODE, kind="power") if e.detail.get("to") == "on"]
    return datetime.fromisoformat(str(events[-1].time)).astimezone(UTC)


def _by_hand(rack: Rack, image: BuiltImage, ramdisk: BuiltRamdisk, directory: Path) -> float:
    """Seconds from power-on to a login, by the script."""
    mac = next(n.mac for n in rack.spec().nodes if n.name == NODE)
    host_key, login = generate_host_key(NODE), generate_host_key("script")
    dhcp, service = Dnsmasq(rack.spec().namespace, directory), BootService(rack.spec().namespace)
    try:
        service.script("chain --replace /ipxe/${netX/mac:hexhyp} || exit")
        service.files["/boot/e1/kernel"] = ramdisk.kernel_path.read_bytes()
        service.files["/boot/e1/ramdisk"] = ramdisk.ramdisk_path.read_bytes()
        service.entry_for(mac)
        seed = render_seed(_seed(mac, host_key, login))
        service.order_image(image.path.read_bytes(), raw_size_bytes=image.record.raw_size_bytes, seed=seed)
        service.orders.append("action=reboot\n")
        _ipmitool(rack, "chassis", "bootdev", "pxe")
        _ipmitool(rack, "chassis", "power", "on")
        _login(rack, directory, host_key, login)
        return (datetime.now(UTC) - _powered_on_at(rack)).total_seconds()
    finally:
        _ipmitool(rack, "chassis", "power", "off")
        service.stop()
        dhcp.stop()


def _seed(mac: str, host_key: KeyPair, login: KeyPair) -> SeedSpec:
    return SeedSpec(
        instance_id="by-hand",
        hostname=NODE,
        mac=mac,
        address=ADDRESS,
        prefix_length=24,
        host_private_key=host_key.private_openssh,
        host_public_key=host_key.public_line,
        authorized_keys=(login.public_line,),
    )


def _ipmitool(rack: Rack, *arguments: str) -> None:
    bmc, credentials = rack.bmc(NODE), rack.credentials()
    secret = rack.directory / "bench-password"
    secret.touch(mode=0o600)
    secret.write_text(credentials.password)
    login = ("-H", bmc.host, "-p", str(bmc.port), "-U", credentials.username, "-f", str(secret))
    subprocess.run(rack.inside("ipmitool", "-I", "lanplus", *login, *arguments), check=True, capture_output=True)


def _login(rack: Rack, directory: Path, host_key: KeyPair, login: KeyPair) -> None:
    """The host lets us in, and is the one we seeded."""
    identity, known = directory / "identity", directory / "known_hosts"
    identity.touch(mode=0o600)
    identity.write_text(login.private_openssh)
    known.write_text(f"{ADDRESS} {host_key.public_line}\n")
    options = ("-o", f"UserKnownHostsFile={known}", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=2")
    command = rack.inside("ssh", "-i", str(identity), "-o", "BatchMode=yes", *options, f"root@{ADDRESS}", "true")
    deadline = time.monotonic() + 900
    while subprocess.run(command, capture_output=True, check=False).returncode != 0:
        assert time.monotonic() < deadline, "the host booted by hand never answered"
        time.sleep(0.5)  # between two attempts


def _levier(environment: dict[str, str], *arguments: str, stdin: str | None = None) -> str:
    argv = [sys.executable, "-m", "levier", *arguments]
    done = subprocess.run(argv, env=environment, input=stdin, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _by_levier(rack: Rack, environment: dict[str, str]) -> float:
    """Seconds from power-on to the end of `boot-host`, by an expand."""
    _levier(environment, "up", "--detach", "--netns", rack.spec().namespace)
    try:
        for name, values in json.loads((rack.directory / "credentials.json").read_text()).items():
            _levier(environment, "secret", "set", name, "--stdin-json", stdin=json.dumps(values))
        _levier(environment, "site", "apply", str(rack.directory / "site.yaml"))
        operation: dict[str, Any] = json.loads(_levier(environment, "expand", "--json"))
    finally:
        _levier(environment, "down")
    step = next(s for s in operation["steps"] if s["step"] == "boot-host")
    ended_s = datetime.fromisoformat(step["started"]).timestamp() + step["duration_s"]
    return float(ended_s - _powered_on_at(rack).timestamp())


def test_power_on_to_ssh(rack: Rack, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    image = build_image(recipe_named("debian-12", kernel=KernelFlavour.CLOUD), CACHE, print)
    ramdisk = build_ramdisk(CACHE, print)
    by_hand_s = _by_hand(rack, image, ramdisk, tmp_path)
    with tempfile.TemporaryDirectory(prefix="levier-bench-", dir="/var/tmp") as state:
        Path(state).chmod(0o711)  # dnsmasq drops its privileges and still reads below it
        environment = {**os.environ, **PORTS, "LEVIER_STATE_DIR": state, "LEVIER_IMAGE_CACHE": str(CACHE)}
        by_levier_s = _by_levier(rack, environment)
    ratio = by_levier_s / by_hand_s
    print(f"\npower-on → SSH: by hand {by_hand_s:.1f} s, Levier {by_levier_s:.1f} s, ratio {ratio:.2f} (goal: 1.10)")
    assert by_levier_s > 0
    assert by_hand_s > 0
