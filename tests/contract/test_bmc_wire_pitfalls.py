"""What goes wrong on the wire and at login, provoked between the driver and real servers."""

from __future__ import annotations

import logging
import os
import resource
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import pytest
from bmc_peers import AUTH_CAPABILITIES, IpmiSim, Scripted
from udp_proxy import Datagram, Direction, Kind, UdpProxy, match, rewrite

from drivers.bmc import BMC_DRIVERS, IpmiOptions
from drivers.bmc.pyghmi_port import IpmiSession
from levier.domain import errors
from levier.domain.bmc import Bmc, BmcAddress, BootDevice, BootOverride, Credentials, Firmware, PowerState
from levier.domain.permit import unconditional

BRISK = {"min_interval_s": 0, "settle_after_reset_s": 0, "poll_interval_s": 0.05, "timeout_s": 20, "resend_s": 0.3}
PATIENT = {"timeout_s": 100, "resend_s": 20}
"""For tests that count packets: nothing is resent only because the machine is slow. A fifth of timeout_s counts."""
PXE = BootOverride(BootDevice.PXE, persistent=True, firmware=Firmware.UEFI)


def driver(peer: Scripted | IpmiSim, at: BmcAddress | None = None, **options: object) -> Bmc:
    return BMC_DRIVERS["ipmi"](at or peer.address, peer.credentials, options=BRISK | options)


# ---- login ---------------------------------------------------------------------------------------------------------


def _with_status(status: int) -> Callable[[bytes], bytes]:
    """The same login reply with another RMCP+ status code (IPMI 2.0 table 13-15)."""
    return lambda payload: payload[:17] + bytes([status]) + payload[18:]


@pytest.mark.parametrize("status", [0x09, 0x0A, 0x0D])
def test_account_without_privilege_is_tried_once(sim: IpmiSim, status: int) -> None:
    """pyghmi lowers the privilege by itself and logs in again."""
    with UdpProxy(sim.address, rewrite(match(Direction.TO_CLIENT, Kind.RAKP2), _with_status(status))) as proxy:
        with pytest.raises(errors.AuthFailed):
            driver(sim, proxy.address, **PATIENT).power_on()
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
            BMC_DRIVERS["ipmi"](proxy.address, Credentials("nobody", "secret"), options=BRISK | PATIENT).power_state()
        assert proxy.count(Direction.TO_BMC, Kind.RAKP1) == 1


def test_refusal_of_our_proof_is_tried_once(sim: IpmiSim) -> None:
    """pyghmi logs in again when RAKP 4 says "invalid integrity check": that is how accounts get locked."""

    with UdpProxy(sim.address, rewrite(match(Direction.TO_CLIENT, Kind.RAKP4), _with_status(0x0F))) as proxy:
        with pytest.raises(errors.AuthFailed, match="RAKP4"):
            driver(sim, proxy.address, **PATIENT).power_state()
        assert proxy.count(Direction.TO_BMC, Kind.RAKP3) == 1


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
        driver(sim, proxy.address).power_state()
    assert str(proxy.address) in str(caught.value)


def test_malformed_reply_of_one_bmc_disturbs_no_other(scripted_fleet: Iterator[Scripted]) -> None:
    peers = list(islice(scripted_fleet, 8))
    cut = rewrite(match(Direction.TO_CLIENT, Kind.RAKP2), lambda p: p[:24])
    with UdpProxy(peers[0].address, cut) as broken:

        def ask(peer: Scripted) -> str:
            at = broken.address if peer is peers[0] else peer.address
            try:
                return driver(peer, at).power_state().value
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
        stranger.settimeout(30)
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
    options = IpmiOptions(timeout_s=20)
    held: list[IpmiSession] = []

    def take_all() -> None:
        for _ in range(64):
            held.append(IpmiSession(sim.address, sim.credentials, options, unconditional))

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
