"""What BMCs in the field do wrong, each provoked on a real server and met as docs/bmc.md says."""

from __future__ import annotations

import logging
import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pytest
from bmc_peers import AUTH_CAPABILITIES, IpmiSim, Scripted, ipmi_sim, scripted_many
from udp_proxy import Datagram, Direction, Kind, UdpProxy, match, rewrite

from drivers.bmc import BMC_DRIVERS, IpmiOptions
from drivers.bmc.pyghmi_port import IpmiSession
from levier.domain import errors
from levier.domain.bmc import Bmc, BmcAddress, BootDevice, BootOverride, Credentials, Firmware, PowerState

BRISK = {"min_interval_s": 0, "settle_after_reset_s": 0, "poll_interval_s": 0.05, "timeout_s": 3, "resend_s": 0.3}
PXE = BootOverride(BootDevice.PXE, persistent=True, firmware=Firmware.UEFI)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Iterator[Scripted]]:
    with scripted_many(tmp_path_factory.mktemp("peers") / "fleet", 80) as peers:
        yield iter(peers)


@pytest.fixture
def bmc(fleet: Iterator[Scripted]) -> Scripted:
    return next(fleet)


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[IpmiSim]:
    with ipmi_sim(tmp_path / "sim") as peer:
        yield peer


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
    assert time.monotonic() - began < 10
    assert [(n, c) for _, n, c, _ in bmc.requests()] == [(0, 1), (0, 2), (0, 1)]


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


def _with_status(status: int) -> Callable[[bytes], bytes]:
    """The same login reply with another RMCP+ status code (IPMI 2.0 table 13-15)."""
    return lambda payload: payload[:17] + bytes([status]) + payload[18:]


@pytest.mark.parametrize("status", [0x09, 0x0A, 0x0D])
def test_account_without_privilege_is_tried_once(sim: IpmiSim, status: int) -> None:
    """pyghmi lowers the privilege by itself and logs in again."""
    with UdpProxy(sim.address, rewrite(match(Direction.TO_CLIENT, Kind.RAKP2), _with_status(status))) as proxy:
        with pytest.raises(errors.AuthFailed):
            driver(sim, proxy.address).power_on()
        assert proxy.count(Direction.TO_BMC, Kind.RAKP1) == 1
    assert sim.told() == []


@pytest.mark.parametrize(("status", "kind"), [(0x01, errors.Busy), (0x0B, errors.Busy), (0x11, errors.Unsupported)])
def test_login_that_is_not_opened(sim: IpmiSim, status: int, kind: type[errors.DriverError]) -> None:
    with (
        UdpProxy(sim.address, rewrite(match(Direction.TO_CLIENT, Kind.OPEN_RESPONSE), _with_status(status))) as proxy,
        pytest.raises(kind),
    ):
        driver(sim, proxy.address).power_on()


def test_unknown_account_is_tried_once(sim: IpmiSim) -> None:
    with UdpProxy(sim.address) as proxy:
        with pytest.raises(errors.AuthFailed, match="Unauthorized name"):
            BMC_DRIVERS["ipmi"](proxy.address, Credentials("nobody", "secret"), options=BRISK).power_state()
        assert proxy.count(Direction.TO_BMC, Kind.RAKP1) == 1


def test_refusal_of_our_proof_is_tried_once(sim: IpmiSim) -> None:
    """pyghmi logs in again when RAKP 4 says "invalid integrity check": that is how accounts get locked."""

    with UdpProxy(sim.address, rewrite(match(Direction.TO_CLIENT, Kind.RAKP4), _with_status(0x0F))) as proxy:
        with pytest.raises(errors.AuthFailed, match="RAKP4"):
            driver(sim, proxy.address).power_state()
        assert proxy.count(Direction.TO_BMC, Kind.RAKP3) == 1


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

    def switch_on_meanwhile(datagram: Datagram) -> None:
        if datagram.direction is Direction.TO_BMC and datagram.kind is Kind.IPMI and datagram.nth == 4:
            switched.set()

    switched = threading.Event()
    with UdpProxy(bmc.address, switch_on_meanwhile) as proxy, ThreadPoolExecutor(1) as pool:
        slow = driver(bmc, proxy.address, min_interval_s=2)
        done = pool.submit(slow.power_on)
        assert switched.wait(10)  # the refused session is over; its look comes 2 s later
        driver(bmc).power_on()  # by the BMC's own address: another gate
        done.result(20)
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
        done.result(20)
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
    assert [c for _, n, c, _ in bmc.requests() if n == 0xA].count(0x22) == 2


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


# ---- malformed replies ----------------------------------------------------------------------------------------------


def test_short_reply_is_malformed(bmc: Scripted) -> None:
    bmc.script(short_replies=True)
    with pytest.raises(errors.MalformedReply, match=r"get FRU area info.*1 bytes"):
        driver(bmc).fru()
    with pytest.raises(errors.MalformedReply):
        driver(bmc).sensors()


@pytest.mark.parametrize("kind", [Kind.OPEN_RESPONSE, Kind.RAKP2, Kind.RAKP4], ids=lambda kind: kind.name.lower())
def test_cut_login_packet_is_malformed_not_a_crash(sim: IpmiSim, kind: Kind) -> None:
    with (
        UdpProxy(sim.address, rewrite(match(Direction.TO_CLIENT, kind), lambda p: p[:24])) as proxy,
        pytest.raises(errors.MalformedReply) as caught,
    ):
        driver(sim, proxy.address, timeout_s=1).power_state()
    assert str(proxy.address) in str(caught.value)


def test_malformed_reply_of_one_bmc_disturbs_no_other(fleet: Iterator[Scripted]) -> None:
    peers = list(islice(fleet, 8))
    cut = rewrite(match(Direction.TO_CLIENT, Kind.RAKP2), lambda p: p[:24])
    with UdpProxy(peers[0].address, cut) as broken:

        def ask(peer: Scripted) -> str:
            at = broken.address if peer is peers[0] else peer.address
            try:
                return driver(peer, at, timeout_s=10).power_state().value
            except errors.MalformedReply as error:
                return type(error).__name__

        with ThreadPoolExecutor(8) as pool:
            rounds = [list(pool.map(ask, peers)) for _ in range(10)]
    assert rounds == [["MalformedReply"] + ["off"] * 7] * 10


def test_stray_datagrams_are_ignored(sim: IpmiSim) -> None:
    def add_noise(datagram: Datagram) -> list[tuple[float, bytes]] | None:
        if datagram.direction is Direction.TO_BMC:
            return None
        noise = (b"", b"\x06", os.urandom(40), b"\x06\x00\xff\x06" + bytes(20), datagram.payload[:12])
        return [*((0.0, piece) for piece in noise), (0.01, datagram.payload)]

    with UdpProxy(sim.address, add_noise) as proxy:
        driver(sim, proxy.address).power_on()
    assert [told.action for told in sim.told()] == ["on"]


def test_packets_of_a_stranger_are_ignored(sim: IpmiSim) -> None:
    """Whoever answers the first packet is taken for the BMC by pyghmi, from whatever address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.settimeout(5)
        stranger.sendto(AUTH_CAPABILITIES, (sim.address.host, sim.address.port))
        believable = stranger.recv(1024)

        def answer_first(datagram: Datagram) -> list[tuple[float, bytes]] | None:
            if datagram.direction is Direction.TO_CLIENT or datagram.kind is not Kind.SESSIONLESS:
                return None
            stranger.sendto(believable, ("127.0.0.1", datagram.client))
            return [(0.1, datagram.payload)]

        with UdpProxy(sim.address, answer_first) as proxy:
            assert driver(sim, proxy.address).power_state() is PowerState.OFF


# ---- sessions ------------------------------------------------------------------------------------------------------


def test_exhausted_session_slots_are_busy(sim: IpmiSim) -> None:
    options = IpmiOptions(timeout_s=2)
    held: list[IpmiSession] = []

    def take_all() -> None:
        for _ in range(64):
            held.append(IpmiSession(sim.address, sim.credentials, options))

    try:
        with pytest.raises(errors.Busy, match="session slot") as caught:
            take_all()
        assert "restart the BMC" in caught.value.hint
        assert len(held) >= 4
        with pytest.raises(errors.Busy):
            driver(sim).power_on()
    finally:
        for session in held:
            session.close()
    assert sim.told() == []
    assert driver(sim).power_state() is PowerState.OFF


def test_silent_suite_3_is_accepted_and_suites_can_be_chosen(bmc: Scripted, sim: IpmiSim) -> None:
    assert driver(bmc).power_state() is PowerState.OFF  # answers suite 3 to an offer of 17, without an error
    assert driver(bmc, cipher_suite=3).power_state() is PowerState.OFF
    assert driver(sim, cipher_suite=3).power_state() is PowerState.OFF
    with pytest.raises(errors.MalformedReply, match="cannot be decoded"):
        driver(bmc, cipher_suite=17).power_state()


def test_works_beyond_a_thousand_open_files(sim: IpmiSim) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2048)), hard))
    held: list[int] = []
    try:
        while not held or held[-1] < 1100:
            held.append(os.dup(0))
        assert driver(sim).power_state() is PowerState.OFF
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_no_socket_is_left_open(sim: IpmiSim) -> None:
    wrong = BMC_DRIVERS["ipmi"](sim.address, Credentials("admin", "wrong"), options=BRISK)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        driver(sim).power_state()
        with pytest.raises(errors.AuthFailed):
            wrong.power_state()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_secrets_stay_out_of_logs_and_errors(bmc: Scripted, sim: IpmiSim, caplog: pytest.LogCaptureFixture) -> None:
    secret = "hunter2-hunter2"
    with caplog.at_level(logging.DEBUG):
        wrong = BMC_DRIVERS["ipmi"](sim.address, Credentials("admin", secret), options=BRISK)
        with pytest.raises(errors.AuthFailed) as caught:
            wrong.power_state()
        driver(sim).set_boot_override(PXE)
    said = caplog.text + repr(caught.value) + caught.value.hint + repr(vars(wrong))
    assert secret not in said
