"""What BMCs in the field do wrong, each provoked on a real server and met as docs/bmc.md says."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import pytest
from bmc_peers import IpmiSim, Scripted, ipmi_sim, wait_until
from udp_proxy import Datagram, Delivery, UdpProxy

from drivers.bmc import BMC_DRIVERS
from levier.domain import errors
from levier.domain.bmc import Bmc, BmcAddress, BootDevice, BootOverride, Firmware, PowerState

BRISK = {"min_interval_s": 0, "settle_after_reset_s": 0, "poll_interval_s": 0.05, "timeout_s": 20, "resend_s": 0.3}
PXE = BootOverride(BootDevice.PXE, persistent=True, firmware=Firmware.UEFI)


def driver(peer: Scripted | IpmiSim, at: BmcAddress | None = None, **options: object) -> Bmc:
    return BMC_DRIVERS["ipmi"](at or peer.address, peer.credentials, options=BRISK | options)


# ---- completion codes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0xC0, 0xC4, 0xD0, 0xD1, 0xD2])
def test_busy_codes_are_busy_and_nothing_was_switched(bmc: Scripted, code: int) -> None:
    bmc.script(codes={"00 02": code})
    with pytest.raises(errors.Busy, match=f"0x{code:02x}") as caught:
        driver(bmc).power_on()
    assert "later" in caught.value.hint
    assert len(bmc.told()) == 1
    bmc.script()
    driver(bmc).power_on()


@pytest.mark.parametrize("code", [0xC1, 0xC2, 0xD6])
def test_missing_capabilities_are_unsupported(bmc: Scripted, code: int) -> None:
    bmc.script(codes={"00 04": code, "00 02": code})
    with pytest.raises(errors.Unsupported, match="identify"):
        driver(bmc).identify(on=True)
    with pytest.raises(errors.Unsupported, match="chassis control on"):
        driver(bmc).power_on()


@pytest.mark.parametrize("code", [0xCC, 0xD3, 0xD5, 0xFF])
def test_refused_power_command_is_rejected_after_one_look(bmc: Scripted, code: int) -> None:
    bmc.script(codes={"00 02": code})
    began = time.monotonic()
    with pytest.raises(errors.Rejected, match=f"0x{code:02x}") as caught:
        driver(bmc).power_on(timeout_s=30)
    assert type(caught.value) is errors.Rejected
    assert time.monotonic() - began < 25
    asked = [request for request, _ in groupby((n, c) for _, n, c, _ in bmc.requests())]  # a question may be resent
    assert asked == [(0, 1), (0, 2), (0, 1)]
    assert len(bmc.told()) == 1


@pytest.mark.parametrize("code", [0xC3, 0xCE])
def test_time_out_inside_the_bmc_is_unknown(bmc: Scripted, code: int) -> None:
    bmc.script(codes={"00 02": code})
    with pytest.raises(errors.OutcomeUnknown, match=f"0x{code:02x}"):
        driver(bmc).power_on(timeout_s=0.3)
    assert len(bmc.told()) == 1


def test_insufficient_privilege_is_an_authentication_failure(bmc: Scripted) -> None:
    bmc.script(codes={"00 02": 0xD4})
    with pytest.raises(errors.AuthFailed, match="privilege") as caught:
        driver(bmc).power_on()
    assert "privilege" in caught.value.hint
    assert len(bmc.told()) == 1


# ---- power that lies ------------------------------------------------------------------------------------------------


def test_slow_power_is_waited_for(bmc: Scripted) -> None:
    bmc.script(power_lag_s=1.0)
    began = time.monotonic()
    driver(bmc).power_on(timeout_s=20)
    assert time.monotonic() - began >= 0.9
    assert driver(bmc).power_state() is PowerState.ON
    assert len(bmc.told()) == 1


def test_acknowledged_and_ignored_is_unknown(bmc: Scripted) -> None:
    bmc.script(ignore_power=True)
    with pytest.raises(errors.OutcomeUnknown, match="accepted, but the chassis is off after"):
        driver(bmc).power_on(timeout_s=0.5)
    assert len(bmc.told()) == 1


def test_operating_system_that_ignores_the_power_button_is_rejected(bmc: Scripted) -> None:
    bmc.script(ignore_soft_off=True)
    driver(bmc).power_on()
    with pytest.raises(errors.Rejected, match="is on after") as caught:
        driver(bmc).soft_off(timeout_s=0.5)
    assert "hard" in caught.value.hint
    assert [told.action for told in bmc.told()] == ["on", "soft off"]


def test_chassis_that_refuses(sim: IpmiSim) -> None:
    sim.switch("refuse", on=True)
    with pytest.raises(errors.Rejected):
        driver(sim).power_on(timeout_s=30)
    assert len(sim.told()) == 1
    sim.switch("refuse", on=False)
    driver(sim).power_on()


def test_refusal_of_what_is_already_true_is_no_error(bmc: Scripted) -> None:
    """Between the look and the command somebody else switched it on; some BMCs refuse the repeat."""
    bmc.script(codes_once={"00 02": 0xD5})

    switched, sessions = threading.Event(), list[int]()

    def hold_back_the_look(datagram: Datagram) -> list[Delivery] | None:
        """The session after the refused one does not reach the BMC yet: it resends."""
        sessions.append(datagram.client)
        return [] if datagram.client != sessions[0] and not switched.is_set() else None

    with UdpProxy(bmc.address, hold_back_the_look) as proxy, ThreadPoolExecutor(1) as pool:
        slow = driver(bmc, proxy.address, timeout_s=60)
        done = pool.submit(slow.power_on)
        wait_until(lambda: len(bmc.told()) == 1, what="the command that is refused")
        driver(bmc).power_on()  # by the BMC's own address: another gate
        switched.set()
        done.result(120)
    assert [told.action for told in bmc.told()] == ["on", "on"]


def test_bmc_that_is_busy_while_the_state_is_watched_is_watched_on(bmc: Scripted) -> None:
    bmc.script(power_lag_s=0.3)
    watcher = driver(bmc)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(watcher.power_on, timeout_s=20)
        while not bmc.told():
            time.sleep(0.01)
        bmc.script(codes={"00 01": 0xD2})
        seen = len(bmc.requests())
        while len(bmc.requests()) < seen + 2:
            time.sleep(0.01)
        bmc.script()
        done.result(60)
    assert len(bmc.told()) == 1


# ---- boot options ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0x80, 0xC9, 0xCC, 0xC1])
def test_refused_boot_flag_timer_is_tolerated(bmc: Scripted, code: int) -> None:
    bmc.script(codes={"00 08 03": code})
    driver(bmc).set_boot_override(PXE)
    assert driver(bmc).boot_override() == PXE


def test_persistence_that_is_dropped_is_noticed(bmc: Scripted) -> None:
    bmc.script(keeps="device")
    with pytest.raises(errors.Rejected, match=r"persistent.*reports pxe.*once"):
        driver(bmc).set_boot_override(PXE)
    once = BootOverride(BootDevice.PXE, firmware=Firmware.UEFI)
    driver(bmc).set_boot_override(once)
    assert driver(bmc).boot_override() == once


def test_boot_override_that_is_dropped_is_noticed(bmc: Scripted) -> None:
    bmc.script(keeps="none")
    with pytest.raises(errors.Rejected, match="reports none"):
        driver(bmc).set_boot_override(PXE)


def test_bmc_without_boot_options_is_unsupported(bmc: Scripted) -> None:
    bmc.script(codes={"00 08": 0x80, "00 09": 0x80})
    with pytest.raises(errors.Unsupported, match="boot parameter"):
        driver(bmc).set_boot_override(PXE)
    with pytest.raises(errors.Unsupported, match="boot parameter"):
        driver(bmc).boot_override()


def test_bmc_that_cannot_report_boot_options_is_believed_aloud(bmc: Scripted, caplog: pytest.LogCaptureFixture) -> None:
    bmc.script(codes={"00 09": 0xC1})
    with caplog.at_level(logging.WARNING, "drivers.bmc"):
        driver(bmc).set_boot_override(PXE)
    assert "is believed" in caplog.text
    assert bmc.boot_device() == "pxe"


def test_busy_while_reading_boot_options_back_is_busy(bmc: Scripted) -> None:
    bmc.script(codes={"00 09": 0xC0})
    with pytest.raises(errors.Busy):
        driver(bmc).set_boot_override(PXE)


def test_uefi_flag_is_explicit(bmc: Scripted) -> None:
    for firmware, flags in ((Firmware.UEFI, 0xE0), (Firmware.BIOS, 0xC0)):
        driver(bmc).set_boot_override(BootOverride(BootDevice.DISK, persistent=True, firmware=firmware))
        sent = [data for _, netfn, command, data in bmc.requests() if (netfn, command) == (0, 8) and data[0] == 5]
        assert sent[-1][1] == flags


# ---- FRU and sensors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("largest", [8, 16, 24])
@pytest.mark.parametrize("code", [0xC8, 0xCA, 0xC7, 0xFF])
def test_long_reads_are_cut_until_the_bmc_takes_them(bmc: Scripted, largest: int, code: int) -> None:
    bmc.script(largest_read=largest, too_much_code=code)
    assert driver(bmc).fru() == bmc.facts.fru
    assert {r.name: r.value for r in driver(bmc).sensors()} == {n: f[0] for n, f in bmc.facts.sensors.items()}


def test_bmc_that_refuses_any_read_is_not_asked_for_ever(bmc: Scripted) -> None:
    bmc.script(largest_read=0)
    with pytest.raises(errors.Rejected):
        driver(bmc).fru()
    with pytest.raises(errors.DriverError):
        driver(bmc).sensors()


def test_lost_reservation_is_taken_again(bmc: Scripted) -> None:
    bmc.script(codes_once={"0a 23 0100": 0xC5})
    assert {r.name for r in driver(bmc).sensors()} == set(bmc.facts.sensors)
    assert [c for _, n, c, _ in bmc.requests() if n == 0xA].count(0x22) >= 2  # a question may be resent


def test_reservation_that_is_always_lost_is_busy(bmc: Scripted) -> None:
    bmc.script(codes={"0a 23 0100": 0xC5})
    with pytest.raises(errors.Busy, match="reservation"):
        driver(bmc).sensors()


def test_bmc_without_fru_says_so(bmc: Scripted) -> None:
    bmc.script(codes={"0a 10": 0xCB})
    with pytest.raises(errors.Unsupported, match="FRU"):
        driver(bmc).fru()


def test_records_stored_twice_are_read_once(tmp_path: Path) -> None:
    """OpenIPMI's simulator doubles persisted records at every restart."""
    with ipmi_sim(tmp_path / "sim", record_copies=2) as sim:
        readings = driver(sim).sensors()
    assert [r.name for r in readings] == ["CPU Temp", "FAN1"]
