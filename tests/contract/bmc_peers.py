"""BMCs that tests start on loopback, each with its own record of what it was told."""

from __future__ import annotations

import errno
import json
import os
import random
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import lab_bmc
import scripted_bmc
from ipmi_records import fru_storage, full_sensor_record

from levier.domain.bmc import BmcAddress, Credentials, FruInventory
from levier.lab.ledger import EventKind, read_events

AUTH_CAPABILITIES = bytes.fromhex("0600ff07000000000000000000092018c88100388e04b5")


@dataclass(frozen=True)
class Told:
    """One chassis command as the BMC saw it: `on`, `off`, `soft off`, `reset`."""

    time: float
    action: str


@dataclass(frozen=True)
class Facts:
    """What the driver must find on this BMC."""

    fru: FruInventory
    sensors: dict[str, tuple[float | None, str, str]]
    """Name → value, unit, health."""
    reports_boot_flags: bool = True


class BmcPeer(Protocol):
    """A running BMC, and its own account of what happened to it."""

    address: BmcAddress
    credentials: Credentials
    facts: Facts

    def told(self) -> list[Told]:
        """Chassis commands so far, oldest first."""
        ...

    def boot_device(self) -> str:
        """The device the next boot comes from, in the words of BootDevice."""
        ...

    def light(self) -> list[tuple[int, int]]:
        """Identify commands so far: seconds, forced on."""
        ...


_handed_out: set[int] = set()


def free_udp_port() -> int:
    """A port that nobody has now, below the range from which the kernel gives ports to clients, never given twice."""
    while True:
        port = random.randrange(20_000, 32_000)
        if port in _handed_out:
            continue
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
        _handed_out.add(port)
        return port


def wait_until(condition: Callable[[], bool], *, what: str, timeout_s: float = 20.0) -> None:
    """The condition holds; it is looked at after the deadline once more."""
    deadline = time.monotonic() + timeout_s
    while True:
        late = time.monotonic() >= deadline  # before the look: this computer may stand still between two looks
        if condition():
            return
        assert not late, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)


def answers(address: BmcAddress) -> bool:
    """Whether something answers Get Channel Authentication Capabilities there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.settimeout(0.05)
        probe.sendto(AUTH_CAPABILITIES, (address.host, address.port))
        try:
            return len(probe.recv(1024)) > 20
        except OSError:
            return False


@contextmanager
def running(command: list[str], *, directory: Path, addresses: Sequence[BmcAddress]) -> Iterator[None]:
    """The program runs and answers everywhere; at the end it is gone."""
    with (directory / "output").open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
    try:
        for address in addresses:
            wait_until(lambda at=address: process.poll() is not None or answers(at), what=f"{command[0]} answers")
        assert process.poll() is None, (directory / "output").read_text()
        yield
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


# ---- OpenIPMI's ipmi_sim ---------------------------------------------------------------------------------------------

_LAN_CONF = """name "{name}"
set_working_mc 0x20
  startlan 1
    addr 127.0.0.1 {port}
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
    allowed_auths_user none md2 md5 straight
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid a123456789abcdefa123456789abcdef
  endlan
  chassis_control "{chassis} 0x20"
  user 2 true "admin" "secret" admin 10 none md2 md5 straight
  user 3 true "guest" "secret" user 10 none md2 md5 straight
"""

# Keeps power and boot device in files and writes down what it is told. `refuse` and `ignore` are switches of the tests.
_CHASSIS = """#!/bin/sh
cd {directory} || exit 1
echo "$(date +%s.%N) $2 $3 $4 $5" >> log
case "$2 $3" in
"get power") echo "power:$(cat power)" ;;
"get boot") echo "boot:$(cat boot)" ;;
"set "*)
    test -e refuse && exit 1
    test -e ignore && exit 0
    case "$3" in
    power) echo "$4" > power ;;
    shutdown) echo 0 > power ;;
    boot) echo "$4" > boot ;;
    esac ;;
esac
exit 0
"""

_SIM_BOOT = {"none": "none", "pxe": "pxe", "default": "disk", "cdrom": "cdrom", "bios": "bios-setup"}
_SIM_FRU = {"manufacturer": "OpenIPMI", "product": "Simulator", "serial": "SIM0001", "asset_tag": "T-42"}


@dataclass
class IpmiSim:
    """OpenIPMI's BMC. Its chassis program is the witness."""

    directory: Path
    address: BmcAddress
    credentials: Credentials = field(default_factory=lambda: Credentials("admin", "secret"))
    facts: Facts = field(
        default_factory=lambda: Facts(
            fru=FruInventory(**_SIM_FRU),
            sensors={"CPU Temp": (55.0, "°C", "ok"), "FAN1": (4200.0, "RPM", "ok")},
            reports_boot_flags=False,
        )
    )

    def _lines(self) -> list[list[str]]:
        log = self.directory / "log"
        return [line.split() for line in log.read_text().splitlines()] if log.exists() else []

    def told(self) -> list[Told]:
        words = {"power 1": "on", "power 0": "off", "shutdown 1": "soft off", "reset 1": "reset"}
        entries = ((line[0], " ".join(line[2:4])) for line in self._lines() if line[1] == "set")
        return [Told(float(when), words[what]) for when, what in entries if what in words]

    def boot_device(self) -> str:
        return _SIM_BOOT[(self.directory / "boot").read_text().strip()]

    def light(self) -> list[tuple[int, int]]:
        return [(int(line[3]), int(line[4])) for line in self._lines() if line[1:3] == ["set", "identify"]]

    def switch(self, name: str, *, on: bool) -> None:
        """`refuse`: the chassis fails every command; `ignore`: it accepts and does nothing."""
        flag = self.directory / name
        flag.touch() if on else flag.unlink()


def _sim_commands(record_copies: int) -> str:
    def listed(data: bytes) -> str:
        return " ".join(f"0x{byte:02x}" for byte in data)

    fru = fru_storage(**_SIM_FRU)
    temperature = full_sensor_record(record_id=1, number=1, name="CPU Temp", sensor_type=1, unit=1, m=1)
    fan = full_sensor_record(record_id=2, number=2, name="FAN1", sensor_type=4, unit=18, m=100)
    return "\n".join(
        [
            "mc_setbmc 0x20",
            "mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02",
            "sel_enable 0x20 1000 0x0a",
            f"mc_add_fru_data 0x20 0 {len(fru)} data {listed(fru)}",
            *[f"main_sdr_add 0x20 {listed(record)}" for record in (temperature, fan) for _ in range(record_copies)],
            "sensor_add 0x20 0 1 0x01 0x01",
            "sensor_set_value 0x20 0 1 55 0",
            "sensor_add 0x20 0 2 0x04 0x01",
            "sensor_set_value 0x20 0 2 42 0",
            "mc_enable 0x20",
            "",
        ]
    )


@contextmanager
def ipmi_sim(directory: Path, *, record_copies: int = 1) -> Iterator[IpmiSim]:
    """OpenIPMI's simulator runs, powered off, on a loopback port of its own."""
    directory.mkdir(parents=True)
    (directory / "state").mkdir()
    port = free_udp_port()
    chassis = directory / "chassis"
    chassis.write_text(_CHASSIS.format(directory=shlex.quote(str(directory))))
    chassis.chmod(0o755)
    (directory / "power").write_text("0\n")
    (directory / "boot").write_text("none\n")
    (directory / "lan.conf").write_text(_LAN_CONF.format(name=directory.name, port=port, chassis=chassis))
    (directory / "cmd.emu").write_text(_sim_commands(record_copies))
    command = ["ipmi_sim", "-c", "lan.conf", "-f", "cmd.emu", "-s", str(directory / "state"), "-n"]
    address = BmcAddress("127.0.0.1", port)
    with running(command, directory=directory, addresses=[address]):
        yield IpmiSim(directory, address)


@contextmanager
def ipmi_sims(directory: Path, count: int) -> Iterator[list[IpmiSim]]:
    """`count` simulators run, each a process of its own."""
    directory.mkdir(parents=True)
    with ExitStack() as stack:
        yield [stack.enter_context(ipmi_sim(directory / f"sim{n}")) for n in range(count)]


# ---- pyghmi's stock server with a script -----------------------------------------------------------------------------


@dataclass
class Scripted:
    """The misbehaving BMC of scripted_bmc.py."""

    directory: Path
    address: BmcAddress
    credentials: Credentials = field(default_factory=lambda: Credentials(scripted_bmc.USER, scripted_bmc.PASSWORD))
    facts: Facts = field(
        default_factory=lambda: Facts(
            fru=FruInventory(**scripted_bmc.FRU),
            sensors={
                "CPU Temp": (42.0, "°C", "ok"),
                "FAN1": (6000.0, "RPM", "critical"),
                "Absent": (None, "°C", "unknown"),
            },
        )
    )

    def script(self, **manners: Any) -> None:
        """From the next request on the BMC behaves as told; see DEFAULTS in scripted_bmc.py."""
        assert manners.keys() <= scripted_bmc.DEFAULTS.keys()
        fresh = self.directory / "script.new"
        fresh.write_text(json.dumps(manners))
        fresh.rename(self.directory / "script.json")

    def requests(self) -> list[tuple[float, int, int, bytes]]:
        """Every request inside a session: time, network function, command, data."""
        lines = [line.split(" ") for line in (self.directory / "log").read_text().splitlines()]
        return [(float(t), int(n, 16), int(c, 16), bytes.fromhex(d)) for t, n, c, d in lines]

    def told(self) -> list[Told]:
        words = {0: "off", 1: "on", 3: "reset", 5: "soft off"}
        return [Told(t, words[data[0]]) for t, netfn, command, data in self.requests() if (netfn, command) == (0, 2)]

    def boot_device(self) -> str:
        words = {0: "none", 1: "pxe", 2: "disk", 5: "cdrom", 6: "bios-setup"}
        sets = [data for _, netfn, command, data in self.requests() if (netfn, command) == (0, 8) and data[0] == 5]
        return words[sets[-1][2] >> 2] if sets else "none"

    def light(self) -> list[tuple[int, int]]:
        sets = [data for _, netfn, command, data in self.requests() if (netfn, command) == (0, 4)]
        return [(data[0], data[1] if len(data) > 1 else 0) for data in sets]


@contextmanager
def scripted_many(directory: Path, count: int) -> Iterator[list[Scripted]]:
    """One process serves `count` of pyghmi's stock BMC servers, powered off, each on a loopback port of its own."""
    directory.mkdir(parents=True)
    peers = [Scripted(directory / f"bmc{n}", BmcAddress("127.0.0.1", free_udp_port())) for n in range(count)]
    command = [sys.executable, scripted_bmc.__file__]
    for peer in peers:
        peer.directory.mkdir()
        peer.script()
        (peer.directory / "log").touch()
        command += [str(peer.directory), str(peer.address.port)]
    with running(command, directory=directory, addresses=[peer.address for peer in peers]):
        yield peers


# ---- the lab's BMC --------------------------------------------------------------------------------------------------


@dataclass
class LabBmc:
    """The virtual rack's BMC. Its ledger is the witness."""

    ledger: Path
    node: str
    address: BmcAddress
    credentials: Credentials = field(default_factory=lambda: Credentials("admin", lab_bmc.USERS["admin"]))
    facts: Facts = field(
        default_factory=lambda: Facts(
            fru=FruInventory(
                manufacturer=lab_bmc.IDENTITY.manufacturer,
                product=lab_bmc.IDENTITY.product,
                serial=lab_bmc.IDENTITY.serial,
                asset_tag=lab_bmc.IDENTITY.asset_tag,
            ),
            sensors={
                "Inlet Temp": (23.0, "°C", "ok"),
                "VBAT": (3.04, "V", "ok"),
                "CPU1 Temp": (None, "°C", "unknown"),
                "FAN1": (None, "RPM", "unknown"),
                "FAN2": (None, "RPM", "unknown"),
                "12V": (None, "V", "unknown"),
                "PSU1 Power": (None, "W", "unknown"),
            },
        )
    )

    def _commands(self, name: str) -> Iterator[tuple[float, dict[str, Any]]]:
        for event in read_events(self.ledger, node=self.node, kind=EventKind.BMC_COMMAND):
            if event.detail["name"] == name:
                yield datetime.fromisoformat(event.time).timestamp(), event.detail

    def told(self) -> list[Told]:
        return [Told(t, detail["action"].replace("-", " ")) for t, detail in self._commands("Chassis Control")]

    def boot_device(self) -> str:
        sets = [d["boot_device"] for _, d in self._commands("Set System Boot Options") if "boot_device" in d]
        return str(sets[-1]) if sets else "none"

    def light(self) -> list[tuple[int, int]]:
        return [(d["duration_s"], int(d["forever"])) for _, d in self._commands("Chassis Identify")]


@contextmanager
def lab_bmcs(directory: Path, count: int) -> Iterator[list[LabBmc]]:
    """`count` BMCs of the virtual rack run in one process, powered off, each on a loopback port of its own."""
    directory.mkdir(parents=True)
    ledger = directory / "ledger"
    addresses = [BmcAddress("127.0.0.1", free_udp_port()) for _ in range(count)]
    command = [sys.executable, lab_bmc.__file__, str(ledger), *(str(address.port) for address in addresses)]
    with running(command, directory=directory, addresses=addresses):
        yield [LabBmc(ledger, f"n{index}", address) for index, address in enumerate(addresses)]
