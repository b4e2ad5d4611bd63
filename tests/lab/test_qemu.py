"""The qemu chassis against the truth: real firmware and iPXE, whose own commands stand in for an OS."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from levier.domain.bmc import Firmware
from levier.lab.spec import ChassisKind
from tests.lab.conftest import Bench
from tests.lab.provisioning import PORT, SERVER, wait_until
from tests.lab.real_mode import POWER_OFF, POWER_OFF_AT_BUTTON, SECTORS_A_CALL, boot_sector, writes_then_powers_off

pytestmark = pytest.mark.root
NODE = "a1-01"


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench(chassis=ChassisKind.QEMU, nodes=1, disk_gib=1)


def test_a_one_shot_pxe_boot_is_used_up_by_the_reboot_inside(bench: Bench) -> None:
    bench.service.script("reboot")
    bench.ipmi(NODE, "chassis", "bootdev", "pxe")
    assert "Force PXE" in bench.ipmi(NODE, "chassis", "bootparam", "get", "5")
    bench.ipmi(NODE, "chassis", "power", "on")
    bench.wait_for_boots(NODE, 2)
    assert bench.boots(NODE) == [("pxe", "power-on"), ("disk", "guest-reboot")]
    assert "Boot Flag Invalid" in bench.ipmi(NODE, "chassis", "bootparam", "get", "5")
    assert ("GET", "/boot.ipxe") in bench.service.requests

    # An empty disk does not end the machine: it waits at "No bootable device", as firmware does.
    console = bench.rack.layout.console(NODE)
    wait_until(lambda: "No bootable device" in console.read_text(errors="replace"), what="the disk boot")
    assert bench.powers(NODE) == [("on", "bmc")]
    assert bench.rack.node(NODE)["booted_from"] == "disk"


def test_a_persistent_pxe_boot_holds_over_reboots_until_it_is_changed(bench: Bench) -> None:
    bench.service.script("reboot")
    bench.ipmi(NODE, "chassis", "bootdev", "pxe", "options=persistent")
    bench.ipmi(NODE, "chassis", "power", "on")
    bench.wait_for_boots(NODE, 3)
    assert [device for device, _ in bench.boots(NODE)][:3] == ["pxe", "pxe", "pxe"]
    bench.ipmi(NODE, "chassis", "bootdev", "disk", "options=persistent")
    bench.ipmi(NODE, "chassis", "power", "reset")
    wait_until(lambda: bench.boots(NODE)[-1] == ("disk", "bmc-reset"), what="the reset into the disk")


def test_power_off_inside_is_seen_and_told_apart_from_a_reboot(bench: Bench) -> None:
    bench.service.script("chain /program")
    bench.service.files["/program"] = POWER_OFF
    bench.ipmi(NODE, "chassis", "bootdev", "pxe")
    bench.ipmi(NODE, "chassis", "power", "on")
    pids: set[int] = set()

    def off() -> bool:
        if pid := bench.rack.node(NODE)["pid"]:  # never seen, if this computer stands still while the machine runs
            pids.add(pid)
        return bench.powers(NODE) == [("on", "bmc"), ("off", "guest-power-off")]

    wait_until(off, what="power off")
    wait_until(lambda: bench.rack.node(NODE)["power"] == "off", what="the machine is told to be off")
    assert [pid for pid in pids if os.path.exists(f"/proc/{pid}")] == []
    assert "System Power         : off" in bench.ipmi(NODE, "chassis", "status")


def test_a_network_boot_that_fills_the_disk_counts_as_an_image_write(bench: Bench) -> None:
    bench.service.script("chain /program")
    bench.service.files["/program"] = writes_then_powers_off(calls=1100)
    bench.ipmi(NODE, "chassis", "bootdev", "pxe")
    bench.ipmi(NODE, "chassis", "power", "on")
    wait_until(lambda: bench.powers(NODE)[-1:] == [("off", "guest-power-off")], what="power off", timeout_s=90)
    written = bench.rack.events(node=NODE, kind="disk-write")
    assert [e.detail for e in written] == [{"boot": 1, "bytes": 1100 * SECTORS_A_CALL * 512, "image": True}]
    status = bench.rack.node(NODE)
    assert (status["image_writes"], status["disk_bytes_written"]) == (1, 1100 * SECTORS_A_CALL * 512)

    # The same from the disk is the operating system's own writing, and no image.
    with bench.rack.layout.disk(NODE).open("r+b") as disk:
        disk.write(boot_sector(writes_then_powers_off(calls=3)))
    bench.ipmi(NODE, "chassis", "power", "on")
    wait_until(lambda: len(bench.rack.events(node=NODE, kind="disk-write")) == 2, what="a second write")
    assert bench.rack.events(node=NODE, kind="disk-write")[1].detail["image"] is False
    assert bench.rack.node(NODE)["image_writes"] == 1


def test_power_commands_of_the_bmc(bench: Bench) -> None:
    assert "0xd5" in bench.refused(NODE, "raw", "0x00", "0x02", "0x03")
    bench.ipmi(NODE, "chassis", "power", "on")
    bench.wait_for_power(NODE, "on")
    first = bench.rack.node(NODE)["pid"]
    bench.ipmi(NODE, "chassis", "power", "on")
    bench.ipmi(NODE, "chassis", "bootdev", "pxe")
    bench.ipmi(NODE, "chassis", "power", "cycle")
    bench.wait_for_boots(NODE, 2)
    assert bench.boots(NODE) == [("disk", "power-on"), ("pxe", "bmc-cycle")]
    bench.wait_for_power(NODE, "on")
    assert bench.rack.node(NODE)["pid"] not in (None, first)
    bench.ipmi(NODE, "chassis", "power", "off")
    bench.wait_for_power(NODE, "off")
    assert bench.powers(NODE) == [("on", "bmc"), ("off", "bmc-cycle"), ("on", "bmc-cycle"), ("off", "bmc")]
    assert not os.path.exists(f"/proc/{first}")


def test_soft_off_presses_the_power_button(bench: Bench) -> None:
    with bench.rack.layout.disk(NODE).open("r+b") as disk:
        disk.write(boot_sector(POWER_OFF_AT_BUTTON))
    bench.ipmi(NODE, "chassis", "power", "on")
    console = bench.rack.layout.console(NODE)
    wait_until(lambda: "Booting from Hard Disk" in console.read_text(errors="replace"), what="the disk boot")

    def asked_and_off() -> bool:
        # The button counts from when the program has enabled it, as with an operating system.
        bench.ipmi(NODE, "chassis", "power", "soft")
        return bool(bench.rack.node(NODE)["power"] == "off")

    wait_until(asked_and_off, what="soft off")
    assert bench.powers(NODE) == [("on", "bmc"), ("off", "guest-power-off")]


def test_a_killed_qemu_is_a_crash_and_powers_off(bench: Bench) -> None:
    bench.ipmi(NODE, "chassis", "power", "on")
    bench.wait_for_power(NODE, "on")
    os.kill(bench.rack.node(NODE)["pid"], 9)
    bench.wait_for_power(NODE, "off")
    assert bench.powers(NODE) == [("on", "bmc"), ("off", "crash")]
    assert "status -9" in bench.rack.events(node=NODE, kind="crash")[0].detail["cause"]
    bench.ipmi(NODE, "chassis", "power", "on")
    bench.wait_for_power(NODE, "on")


def test_a_uefi_machine_chain_loads_ipxe_over_tftp_once(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(chassis=ChassisKind.QEMU, nodes=1, disk_gib=1, firmware=Firmware.UEFI)
    bench.service.script("iseq ${platform} efi && reboot || poweroff")
    bench.ipmi(NODE, "chassis", "bootdev", "pxe", "options=efiboot")
    bench.ipmi(NODE, "chassis", "power", "on")
    bench.wait_for_boots(NODE, 2)
    assert bench.boots(NODE) == [("pxe", "power-on"), ("disk", "guest-reboot")]
    assert "snponly.efi" in bench.dhcp.log()
    assert f"http://{SERVER}:{PORT}/boot.ipxe" in bench.dhcp.log()


def test_a_legacy_override_does_not_boot_a_uefi_machine_from_the_network(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(chassis=ChassisKind.QEMU, nodes=1, disk_gib=1, firmware=Firmware.UEFI)
    bench.ipmi(NODE, "chassis", "bootdev", "pxe")
    bench.ipmi(NODE, "chassis", "power", "on")
    bench.wait_for_boots(NODE, 1)
    boot = bench.rack.events(node=NODE, kind="boot")[0].detail
    assert (boot["device"], boot["override_ignored"]) == ("disk", "asked for bios, this machine has uefi")
