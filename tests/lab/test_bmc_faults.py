"""Faults of a BMC, done to real packets, and what Levier's driver makes of each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.bmc import BMC_DRIVERS
from levier.domain import errors
from levier.domain.bmc import Bmc, BmcAddress, BootDevice, BootOverride, Credentials, PowerState
from levier.lab.bmc.device import ChassisAction
from levier.lab.faults import BmcCommand, FaultKind
from tests.lab.bmc_bench import USER, BmcUnderTest, running_bmcs
from tests.rig.standing_still import once_heard

BRISK = {"min_interval_s": 0, "settle_after_reset_s": 0, "poll_interval_s": 0.05, "timeout_s": 20, "resend_s": 0.2}
PXE = BootOverride(BootDevice.PXE)


@pytest.fixture
def bmc(tmp_path: Path) -> Iterator[BmcUnderTest]:
    with running_bmcs(tmp_path) as made:
        yield made[0]


def driver(bmc: BmcUnderTest, **options: object) -> Bmc:
    address = BmcAddress(bmc.address, bmc.port)
    return BMC_DRIVERS["ipmi"](address, Credentials(USER, bmc.password), options=BRISK | options)


# --- replies ---------------------------------------------------------------------------------------------------------
def test_a_power_command_whose_reply_is_lost_is_observed_not_repeated(bmc: BmcUnderTest) -> None:
    bmc.arm(FaultKind.BMC_REPLIES_LOST, command=BmcCommand.POWER)
    once_heard(driver(bmc, timeout_s=2).power_on, told=bmc.commanded)
    assert bmc.hardware.requests == [ChassisAction.ON]
    assert bmc.strikes() == [{"event": "struck", "fault": "bmc-replies-lost", "strike": 1, "command": "power"}]


def test_thirty_of_a_hundred_replies_lost_cost_time_only(bmc: BmcUnderTest) -> None:
    bmc.arm(FaultKind.BMC_REPLIES_LOST, percent=30, count=None, seed=3)
    wanted = [ChassisAction.ON, ChassisAction.OFF] * 4
    # Its command waits for a lost reply to the end.
    patient, brisk = driver(bmc, resend_s=0.05), driver(bmc, resend_s=0.05, timeout_s=1)
    for action in wanted:
        if action is ChassisAction.ON:
            patient.set_boot_override(PXE)
            once_heard(brisk.power_on, told=bmc.commanded)
        else:
            once_heard(brisk.power_off, told=bmc.commanded)
    assert bmc.hardware.requests == wanted
    assert len(bmc.strikes()) > 10


def test_a_bmc_that_never_answers_a_status_is_unreachable(bmc: BmcUnderTest) -> None:
    bmc.arm(FaultKind.BMC_REPLIES_LOST, command=BmcCommand.STATUS, count=None)
    with pytest.raises(errors.Unreachable, match="stopped answering at 'get chassis status'"):
        driver(bmc, timeout_s=3).power_on()  # a login is waited for five times as long once it is heard
    assert bmc.hardware.requests == []


def test_late_replies_are_no_second_answers(bmc: BmcUnderTest) -> None:
    bmc.arm(FaultKind.BMC_REPLIES_LATE, seconds=0.25, count=None)  # later than the driver's resend
    patient = driver(bmc, resend_s=0.1)
    patient.power_on()
    assert patient.power_state() is PowerState.ON
    patient.set_boot_override(PXE)
    assert patient.boot_override() == PXE
    assert bmc.hardware.requests == [ChassisAction.ON]


def test_a_power_command_answered_after_all_patience_is_observed(bmc: BmcUnderTest) -> None:
    bmc.arm(FaultKind.BMC_REPLIES_LATE, seconds=1.5, command=BmcCommand.POWER)
    once_heard(driver(bmc, timeout_s=0.6).power_on, told=bmc.commanded)
    assert bmc.hardware.requests == [ChassisAction.ON]


def test_duplicated_replies_are_taken_once(bmc: BmcUnderTest) -> None:
    bmc.arm(FaultKind.BMC_REPLIES_DUPLICATED, count=None)
    twice = driver(bmc)
    twice.power_on()
    twice.set_boot_override(PXE)
    assert twice.boot_override() == PXE
    assert twice.fru().serial == "LV-test-0001"
    twice.power_off()
    assert bmc.hardware.requests == [ChassisAction.ON, ChassisAction.OFF]
    assert len(bmc.strikes()) > 20


# --- sessions --------------------------------------------------------------------------------------------------------
def test_exhausted_sessions_are_busy_until_one_is_free(bmc: BmcUnderTest) -> None:
    bmc.arm(FaultKind.BMC_SESSIONS_EXHAUSTED, after=1, count=2)
    patient = driver(bmc, timeout_s=100, resend_s=20)  # a resent login is a login, too
    patient.power_state()
    for _ in range(2):
        with pytest.raises(errors.Busy, match="no free session slot") as caught:
            patient.power_on()
        assert "close other IPMI sessions" in caught.value.hint
    assert bmc.hardware.requests == []
    driver(bmc).power_on()


def test_a_dead_bmc_is_unreachable_and_comes_back_without_its_sessions(bmc: BmcUnderTest) -> None:
    bmc.arm(FaultKind.BMC_DIES, after=3, seconds=3.0)
    with pytest.raises(errors.Unreachable, match=r"does not answer IPMI|stopped answering"):
        driver(bmc, timeout_s=0.4).power_on()
    assert bmc.hardware.requests == []
    driver(bmc).power_on()
    assert bmc.hardware.requests == [ChassisAction.ON]
    assert len(bmc.strikes()) == 1


def test_a_bmc_that_dies_while_it_is_watched_is_an_unknown_outcome(bmc: BmcUnderTest) -> None:
    def watch() -> None:
        bmc.arm(FaultKind.BMC_REPLIES_LOST, command=BmcCommand.STATUS, after=1, count=None)
        driver(bmc, timeout_s=0.4).power_on(timeout_s=1)

    with pytest.raises(errors.OutcomeUnknown, match="was sent, then the state could not be read"):
        once_heard(watch, told=bmc.commanded)
    assert bmc.hardware.requests == [ChassisAction.ON]


def test_a_healed_bmc_answers_again(bmc: BmcUnderTest) -> None:
    bmc.arm(FaultKind.BMC_DIES)
    with pytest.raises(errors.Unreachable, match="does not answer IPMI on UDP port") as caught:
        driver(bmc, timeout_s=0.4).power_state()
    assert "cabling" in caught.value.hint
    bmc.heal()
    assert driver(bmc).power_state() is PowerState.OFF


# --- what it does, and says
def test_an_accepted_and_ignored_power_command_is_not_believed(bmc: BmcUnderTest) -> None:
    bmc.arm(FaultKind.BMC_IGNORES_COMMAND, command=BmcCommand.POWER)
    with pytest.raises(errors.OutcomeUnknown, match=r"was accepted, but the chassis is off after 0\.5 s"):
        driver(bmc).power_on(timeout_s=0.5)
    assert bmc.last("Chassis Control")["ignored"] is True
    assert bmc.hardware.requests == []
    driver(bmc).power_on()
    assert bmc.hardware.requests == [ChassisAction.ON]


def test_an_accepted_and_ignored_boot_device_is_refused_by_name(bmc: BmcUnderTest) -> None:
    bmc.arm(FaultKind.BMC_IGNORES_COMMAND, command=BmcCommand.BOOT_DEVICE)
    with pytest.raises(errors.Rejected, match=r"accepted boot override pxe \(once, bios\) but reports none"):
        driver(bmc).set_boot_override(PXE)
    driver(bmc).set_boot_override(PXE)
    assert driver(bmc).boot_override() == PXE


def test_a_power_state_that_says_off_for_ever_ends_in_an_unknown_outcome(bmc: BmcUnderTest) -> None:
    bmc.arm(FaultKind.POWER_STATE_LIES, says=PowerState.OFF, count=None)
    with pytest.raises(errors.OutcomeUnknown, match="accepted, but the chassis is off") as caught:
        driver(bmc).power_on(timeout_s=0.5)
    assert bmc.hardware.requests == [ChassisAction.ON]
    assert "reading" in caught.value.hint


def test_one_lie_is_outlived(bmc: BmcUnderTest) -> None:
    bmc.arm(FaultKind.POWER_STATE_LIES, after=1)
    driver(bmc).power_on(timeout_s=60)
    assert bmc.hardware.requests == [ChassisAction.ON]
    assert bmc.hardware.powered


def test_one_wrong_reading_before_the_command_leaves_no_machine_alone(bmc: BmcUnderTest) -> None:
    bmc.arm(FaultKind.POWER_STATE_LIES, says=PowerState.ON)
    driver(bmc).power_on()
    assert bmc.hardware.requests == [ChassisAction.ON]


def test_off_is_commanded_although_the_bmc_says_off_where_that_is_asked_for(bmc: BmcUnderTest) -> None:
    bmc.hardware.powered = True
    bmc.arm(FaultKind.POWER_STATE_LIES, says=PowerState.OFF, count=None)
    driver(bmc).power_off()
    assert bmc.hardware.powered
    driver(bmc).power_off(believe_off=False)
    assert bmc.hardware.requests == [ChassisAction.OFF]
    bmc.heal()
    driver(bmc).power_off(believe_off=False)
    assert driver(bmc).power_state() is PowerState.OFF
