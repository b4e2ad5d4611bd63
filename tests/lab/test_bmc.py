"""The lab's BMC against two clients that know nothing of it: ipmitool and pyghmi."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import pytest
from pyghmi.exceptions import IpmiException
from pyghmi.ipmi.command import Command

from levier.domain.bmc import BootDevice, BootOverride, Firmware
from levier.lab.bmc.bootflags import VALID_TIMEOUT_S, BootOptions
from levier.lab.bmc.device import ChassisAction
from levier.lab.ledger import EventKind
from tests.lab.bmc_bench import GUID, USER, BmcUnderTest, running_bmcs
from tests.lab.provisioning import wait_until


@pytest.fixture
def bmc(tmp_path: Path) -> Iterator[BmcUnderTest]:
    with running_bmcs(tmp_path) as made:
        yield made[0]


@pytest.fixture
def client(bmc: BmcUnderTest) -> Iterator[Command]:
    made = _login(bmc)
    yield made
    made.ipmi_session.logout()


def _login(bmc: BmcUnderTest, *, password: str | None = None, user: str = USER) -> Command:
    secret = (bmc.password if password is None else password).encode()
    return Command(bmc=bmc.address, port=bmc.port, userid=user.encode(), password=secret)


def _udp() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 0))
    made.settimeout(60)
    return made


def _once_each(requests: Sequence[ChassisAction]) -> list[ChassisAction]:
    """The requests without what pyghmi repeated, which it does to any command after half a second."""
    return [action for action, _ in groupby(requests)]


def _ok(bmc: BmcUnderTest, *arguments: str, suite: int = 17) -> str:
    done = bmc.ipmitool(*arguments, suite=suite)
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- who it is -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("suite", [3, 17])
def test_ipmitool_logs_in_with_either_cipher_suite(bmc: BmcUnderTest, suite: int) -> None:
    said = _ok(bmc, "mc", "info", suite=suite)
    assert "IPMI Version              : 2.0" in said
    for ability in ("Chassis Device", "FRU Inventory Device", "SEL Device", "SDR Repository Device", "Sensor Device"):
        assert ability in said
    assert bmc.of(EventKind.BMC_LOGIN)[0]["cipher_suite"] == suite
    assert bmc.names()[-1] == "Close Session"
    assert {detail["completion_code"] for detail in bmc.of(EventKind.BMC_COMMAND)} <= {0, 0xC1}


def test_guid_self_test_and_session_info(bmc: BmcUnderTest) -> None:
    assert GUID.hex() in _ok(bmc, "mc", "guid").replace("-", "").lower()
    assert "passed" in _ok(bmc, "mc", "selftest")
    assert "user id                       : 1" in _ok(bmc, "session", "info", "active")


def test_pyghmi_reads_identity_and_fru(bmc: BmcUnderTest, client: Command) -> None:
    inventory = dict(client.get_inventory())["System"]
    assert inventory["Serial Number"] == "LV-test-0001"
    assert inventory["Manufacturer"] == "Levier"
    assert inventory["Product name"] == "Virtual Node"
    assert inventory["Asset Number"] == "a1-01"
    assert bmc.of(EventKind.BMC_LOGIN)[0]["username"] == USER


def test_ipmitool_reads_the_fru(bmc: BmcUnderTest) -> None:
    said = _ok(bmc, "fru", "print", "0")
    assert "Product Serial        : LV-test-0001" in said
    assert "Chassis Type          : Main Server Chassis" in said


# --- sensors and logs ------------------------------------------------------------------------------------------------
def test_sensors_follow_the_power(bmc: BmcUnderTest, client: Command) -> None:
    off = {reading.name: reading for reading in client.get_sensor_data()}
    assert off["Inlet Temp"].value == 23.0
    assert off["FAN1"].value is None
    bmc.hardware.powered = True
    on = {reading.name: (reading.value, reading.units) for reading in client.get_sensor_data()}
    assert on["FAN1"] == (7200.0, "RPM")
    assert on["12V"][0] == pytest.approx(12.06)
    assert on["PSU1 Power"] == (128.0, "W")
    said = _ok(bmc, "sensor", "list")
    assert [line for line in said.splitlines() if line.startswith("CPU1 Temp") and "95.000" in line]


def test_the_event_log_takes_and_loses_entries(bmc: BmcUnderTest, tmp_path: Path) -> None:
    assert "Entries          : 0" in _ok(bmc, "sel", "info")
    added = tmp_path / "event"
    added.write_text("0x04 0x01 0x02 0x01 0x57 0x00 0x00 # over temperature\n")
    _ok(bmc, "sel", "add", str(added))
    assert "Temperature #0x02" in _ok(bmc, "sel", "list")
    _ok(bmc, "sel", "clear")
    wait_until(lambda: "Entries          : 0" in _ok(bmc, "sel", "info"), what="an empty log", timeout_s=60)


# --- chassis ---------------------------------------------------------------------------------------------------------
def test_power_by_ipmitool(bmc: BmcUnderTest) -> None:
    for word in ("on", "reset", "cycle", "soft", "off"):
        bmc.hardware.powered = word != "on"
        _ok(bmc, "chassis", "power", word)
    wanted = [ChassisAction.ON, ChassisAction.RESET, ChassisAction.CYCLE, ChassisAction.SOFT_OFF, ChassisAction.OFF]
    assert bmc.hardware.requests == wanted
    entry = bmc.last("Chassis Control")
    assert (entry["netfn"], entry["command"], entry["action"], entry["completion_code"]) == (0, 2, "off", 0)
    assert entry["requester"].startswith("127.0.0.1:")
    assert "System Power         : off" in _ok(bmc, "chassis", "status")


def test_power_by_pyghmi(bmc: BmcUnderTest, client: Command) -> None:
    assert client.get_power() == {"powerstate": "off"}
    assert client.set_power("on", wait=60) == {"powerstate": "on"}
    client.set_power("reset")
    assert client.set_power("off", wait=60) == {"powerstate": "off"}
    assert _once_each(bmc.hardware.requests) == [ChassisAction.ON, ChassisAction.RESET, ChassisAction.OFF]


def test_reset_of_a_machine_that_is_off_is_refused(bmc: BmcUnderTest) -> None:
    done = bmc.ipmitool("chassis", "power", "reset")
    assert done.returncode != 0
    assert "not supported in present state" in done.stderr
    assert bmc.hardware.requests == []
    assert bmc.last("Chassis Control")["completion_code"] == 0xD5


def test_an_operator_command_needs_the_operator_privilege(bmc: BmcUnderTest) -> None:
    done = bmc.ipmitool("-L", "USER", "chassis", "power", "on")
    assert done.returncode != 0
    assert bmc.hardware.requests == []
    assert bmc.last("Chassis Control")["completion_code"] == 0xD4


def test_identify_has_a_state(bmc: BmcUnderTest, client: Command) -> None:
    client.set_identify(on=True)
    assert bmc.device.identify.lit
    assert bmc.device.identify.chassis_bits == 0x20
    client.set_identify(on=False)
    assert not bmc.device.identify.lit
    _ok(bmc, "chassis", "identify", "20")
    assert bmc.device.identify.chassis_bits == 0x10


# --- boot options ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("uefi", [False, True])
@pytest.mark.parametrize("persistent", [False, True])
def test_boot_device_by_pyghmi(bmc: BmcUnderTest, client: Command, *, uefi: bool, persistent: bool) -> None:
    client.set_bootdev("network", persist=persistent, uefiboot=uefi)
    assert client.get_bootdev() == {"bootdev": "network", "persistent": persistent, "uefimode": uefi}
    firmware = Firmware.UEFI if uefi else Firmware.BIOS
    assert bmc.device.boot_options.override() == BootOverride(BootDevice.PXE, persistent, firmware)


@pytest.mark.parametrize(
    ("word", "device"),
    [("pxe", BootDevice.PXE), ("disk", BootDevice.DISK), ("cdrom", BootDevice.CDROM), ("bios", BootDevice.BIOS_SETUP)],
)
def test_boot_device_by_ipmitool(bmc: BmcUnderTest, word: str, device: BootDevice) -> None:
    _ok(bmc, "chassis", "bootdev", word, "options=persistent,efiboot")
    assert bmc.device.boot_options.override() == BootOverride(device, persistent=True, firmware=Firmware.UEFI)
    _ok(bmc, "chassis", "bootdev", "none")
    assert bmc.device.boot_options.override().device is BootDevice.NONE


def test_a_device_that_does_not_exist_is_refused_and_changes_nothing(bmc: BmcUnderTest) -> None:
    _ok(bmc, "chassis", "bootdev", "pxe")
    assert "Invalid data field" in bmc.ipmitool("chassis", "bootdev", "floppy").stderr
    assert bmc.device.boot_options.override().device is BootDevice.PXE


def test_a_one_shot_override_is_consumed_by_one_boot_and_a_persistent_one_is_not() -> None:
    options = BootOptions()
    options.write(bytes([5, 0x80, 0x04, 0, 0, 0]))
    assert options.consume().device is BootDevice.PXE
    assert options.override().device is BootDevice.NONE
    options.write(bytes([5, 0xE0, 0x04, 0, 0, 0]))
    assert options.consume() == options.override() == BootOverride(BootDevice.PXE, True, Firmware.UEFI)


@pytest.mark.parametrize(
    ("timer_disabled", "command_came", "left"),
    [(False, False, BootDevice.NONE), (True, False, BootDevice.PXE), (False, True, BootDevice.PXE)],
)
def test_the_valid_bit_falls_after_a_minute_without_a_chassis_command(
    *, timer_disabled: bool, command_came: bool, left: BootDevice
) -> None:
    now = [1000.0]
    options = BootOptions(clock=lambda: now[0])
    options.write(bytes([3, 0x08 if timer_disabled else 0]))
    options.write(bytes([5, 0x80, 0x04, 0, 0, 0]))
    if command_came:
        options.chassis_control_came()
    now[0] += VALID_TIMEOUT_S - 1
    assert options.override().device is BootDevice.PXE
    now[0] += 2
    assert options.override().device is left


# --- who gets in -----------------------------------------------------------------------------------------------------
def test_pyghmi_with_a_wrong_password_is_refused_at_once_and_recorded(bmc: BmcUnderTest) -> None:
    with pytest.raises(IpmiException, match="Incorrect password"):
        _login(bmc, password="not the password")
    wait_until(lambda: bmc.of(EventKind.BMC_AUTH_FAILED), what="the ledger's entry", timeout_s=60)
    assert bmc.of(EventKind.BMC_AUTH_FAILED)[0]["username"] == USER
    assert bmc.of(EventKind.BMC_LOGIN) == []


@pytest.mark.parametrize("suite", [3, 17])
def test_ipmitool_with_a_wrong_password_is_refused_and_recorded(bmc: BmcUnderTest, suite: int) -> None:
    bmc.secret_file.write_text("wrong")
    done = bmc.ipmitool("mc", "info", suite=suite)
    assert done.returncode != 0
    assert "Unable to establish" in done.stderr
    wait_until(lambda: bmc.of(EventKind.BMC_AUTH_FAILED), what="the ledger's entry", timeout_s=60)
    assert bmc.of(EventKind.BMC_LOGIN) == []


def test_an_unknown_user_is_refused_and_recorded(bmc: BmcUnderTest) -> None:
    assert bmc.ipmitool("mc", "info", user="nobody").returncode != 0
    failures = bmc.of(EventKind.BMC_AUTH_FAILED)
    assert {(entry["username"], entry["reason"]) for entry in failures} == {("nobody", "no such user")}


def test_no_password_ever_reaches_the_ledger(bmc: BmcUnderTest, client: Command) -> None:
    client.get_power()
    assert bmc.password not in repr(bmc.entries)


# --- robustness ------------------------------------------------------------------------------------------------------
def test_sixty_sessions_at_once_on_one_bmc(bmc: BmcUnderTest) -> None:
    def visit(_: int) -> str:
        return _ok(bmc, "chassis", "power", "status", suite=3)

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(visit, range(60)))
    assert answers == ["Chassis Power is off\n"] * 60
    assert len(bmc.of(EventKind.BMC_LOGIN)) == 60
    assert bmc.names().count("Close Session") == 60


def test_many_bmcs_at_once_by_pyghmi_threads(tmp_path: Path) -> None:
    def visit(bmc: BmcUnderTest) -> str:
        client = _login(bmc)
        client.set_bootdev("network")
        state = str(client.set_power("on", wait=60)["powerstate"])
        client.ipmi_session.logout()
        return state

    with running_bmcs(tmp_path, count=32) as bmcs, ThreadPoolExecutor(32) as pool:
        assert list(pool.map(visit, bmcs)) == ["on"] * 32
        assert [_once_each(bmc.hardware.requests) for bmc in bmcs] == [[ChassisAction.ON]] * 32


def test_a_repeated_datagram_acts_once(bmc: BmcUnderTest) -> None:
    """A client's datagrams are recorded on their way; the one with Chassis Control is then sent again."""
    with _udp() as tap, _udp() as out:
        tap.settimeout(0.2)
        through = BmcUnderTest(
            tap.getsockname()[1],
            bmc.password,
            bmc.device,
            bmc.hardware,
            bmc.entries,
            bmc.secret_file,
            bmc.faults,
            bmc.loop,
        )
        with ThreadPoolExecutor(1) as pool:
            told = pool.submit(through.ipmitool, "chassis", "power", "on", suite=3)
            control = b""
            while not told.done():
                try:
                    datagram, client = tap.recvfrom(2048)
                except TimeoutError:
                    continue
                before = len(bmc.hardware.requests)
                out.sendto(datagram, (bmc.address, bmc.port))
                tap.sendto(out.recv(2048), client)
                if len(bmc.hardware.requests) > before:
                    control = datagram
                    out.sendto(control, (bmc.address, bmc.port))
            assert told.result().returncode == 0
    assert control
    assert bmc.hardware.requests == [ChassisAction.ON]


def test_rubbish_is_dropped_and_the_bmc_goes_on(bmc: BmcUnderTest) -> None:
    header = b"\x06\x00\xff\x07"
    rubbish = [b"", b"\x00", header, header + b"\x06", header + b"\x06" + b"\xff" * 40, header + b"\x00" * 30]
    rubbish += [header + b"\x06" + bytes([kind]) + b"\x00" * 10 + b"\x05\x00short" for kind in range(256)]
    with _udp() as out:
        for datagram in rubbish:
            out.sendto(datagram, (bmc.address, bmc.port))
    assert "Chassis Power is off" in _ok(bmc, "chassis", "power", "status")


def test_a_cold_reset_ends_all_sessions(bmc: BmcUnderTest, client: Command) -> None:
    assert client.get_power() == {"powerstate": "off"}
    done = bmc.ipmitool("mc", "reset", "cold")
    assert "Sent cold reset command" in done.stdout
    started = time.monotonic()
    assert "Chassis Power is off" in _ok(bmc, "chassis", "power", "status")
    assert time.monotonic() - started < 30
