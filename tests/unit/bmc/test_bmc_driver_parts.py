"""Options, credentials, the boot flags' bits and the table of completion codes: no BMC is touched."""

from __future__ import annotations

import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.bmc import BMC_DRIVERS, IpmiBmc
from drivers.bmc.boot_flags import read_boot_flags, set_boot_flags
from drivers.bmc.completion import refusal
from drivers.bmc.gate import gate_of
from drivers.bmc.messages import CHASSIS_STATUS
from drivers.bmc.options import IpmiOptions, parse_options
from levier.domain import errors
from levier.domain.bmc import BmcAddress, BootDevice, BootOverride, Credentials, Firmware

ADDRESS = BmcAddress("192.0.2.1")


def test_defaults_are_gentle_to_real_hardware() -> None:
    options = parse_options({})
    assert (options.min_interval_s, options.settle_after_reset_s) == (5.0, 15.0)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"timeout": 5}, "timeout"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"min_interval_s": -1}, "min_interval_s"),
        ({"cipher_suite": 0}, "cipher_suite"),
        ({"privilege": "root"}, "privilege"),
        ({"timeout_s": "soon", "resend_s": "later"}, "resend_s"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], named: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=named) as caught:
        BMC_DRIVERS["ipmi"](ADDRESS, Credentials("a", "b"), options=options)
    assert "min_interval_s" in caught.value.hint


@pytest.mark.parametrize("credentials", [Credentials("u" * 17, "sesame-1"), Credentials("u", "ü" * 11)])
def test_credentials_that_ipmi_cannot_carry(credentials: Credentials) -> None:
    with pytest.raises(errors.InvalidRequest, match="at most") as caught:
        IpmiBmc(ADDRESS, credentials)
    assert credentials.password not in str(caught.value)


@given(
    st.sampled_from([d for d in BootDevice if d is not BootDevice.NONE]), st.booleans(), st.sampled_from(list(Firmware))
)
def test_boot_flags_round_trip(device: BootDevice, persistent: bool, firmware: Firmware) -> None:
    override = BootOverride(device, persistent=persistent, firmware=firmware)
    sent = set_boot_flags(override).data
    assert sent[0] == 5
    report = read_boot_flags(ADDRESS, bytes([1, 5]) + sent[1:])
    assert report.valid
    assert report.in_force == override


def test_boot_flags_as_the_specification_has_them() -> None:
    """IPMI 2.0 table 28-14, parameter 5: valid, persistent, EFI in the first byte, device in bits 5:2 of the next."""
    uefi = BootOverride(BootDevice.PXE, persistent=True, firmware=Firmware.UEFI)
    assert set_boot_flags(uefi).data == bytes([5, 0b1110_0000, 0b0000_0100, 0, 0, 0])
    assert set_boot_flags(BootOverride(BootDevice.BIOS_SETUP)).data == bytes([5, 0b1000_0000, 0b0001_1000, 0, 0, 0])
    assert set_boot_flags(BootOverride(BootDevice.NONE, persistent=True)).data == bytes([5, 0, 0, 0, 0, 0])


@pytest.mark.parametrize(
    "reply", [b"\x01\x85\x80\x04\0\0\0", b"\x01\x05\x00\x04\0\0\0", b"\x01\x05", b"\x01\x05\x80\x00\0\0\0"]
)
def test_flags_that_do_not_count(reply: bytes) -> None:
    assert read_boot_flags(ADDRESS, reply).in_force == BootOverride(BootDevice.NONE)


def test_unknown_boot_device_is_said() -> None:
    with pytest.raises(errors.Unsupported, match="15"):
        read_boot_flags(ADDRESS, bytes([1, 5, 0x80, 0x3C, 0, 0, 0]))


@given(st.integers(min_value=1, max_value=255))
def test_every_completion_code_is_an_error_with_a_way_out(code: int) -> None:
    error = refusal(ADDRESS, CHASSIS_STATUS, code)
    assert isinstance(error, errors.DriverError)
    assert f"0x{code:02x}" in str(error)
    assert str(ADDRESS) in str(error)
    assert error.hint


def test_gate_lets_one_through_and_rests() -> None:
    gate = gate_of(BmcAddress("Gate.Test", 1))
    assert gate is gate_of(BmcAddress("gate.test", 1))
    assert gate is not gate_of(BmcAddress("gate.test", 2))
    inside = threading.Semaphore(1)
    starts: list[float] = []

    def pass_through(_: int) -> None:
        with gate.turn(min_interval_s=0.05):
            assert inside.acquire(blocking=False)
            starts.append(time.monotonic())
            inside.release()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(pass_through, range(8)))
    assert all(later - earlier >= 0.05 for earlier, later in pairwise(starts))


def test_gate_opens_again_after_a_failure() -> None:
    gate = gate_of(BmcAddress("gate.failure"))
    with pytest.raises(errors.Busy), gate.turn(min_interval_s=0):
        raise errors.Busy("busy")
    with gate.turn(min_interval_s=0):
        gate.rest(0.2)
    began = time.monotonic()
    with gate.turn(min_interval_s=0):
        assert time.monotonic() - began >= 0.15


def _pass_gate(address: BmcAddress) -> None:
    with gate_of(address).turn(min_interval_s=0):
        pass


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_gate_held_while_forking_does_not_hang_the_child() -> None:
    address = BmcAddress("gate.fork")
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with gate_of(address).turn(min_interval_s=0):
            held.set()
            release.wait(30)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(hold)
        assert held.wait(10)
        child = multiprocessing.get_context("fork").Process(target=_pass_gate, args=(address,))
        child.start()
        child.join(10)
        hung = child.is_alive()
        if hung:
            child.kill()
            child.join()
        release.set()
    assert not hung
    assert child.exitcode == 0


def test_bmc_object_touches_nothing_and_shows_no_secret() -> None:
    bmc = IpmiBmc(ADDRESS, Credentials("admin", "sesame-open"), options=IpmiOptions())
    assert bmc.address == ADDRESS
    assert "sesame-open" not in f"{bmc!r} {vars(bmc)!r}"
    bmc.close()
