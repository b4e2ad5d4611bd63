"""What every BMC driver must do, shown on independent BMC implementations whose own records are the truth."""

from __future__ import annotations

import logging
import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import groupby, islice, pairwise, product
from pathlib import Path

import bmc_peers
import pytest
from bmc_peers import BmcPeer, free_udp_port
from udp_proxy import Datagram, Delivery, Direction, Kind, Rule, UdpProxy, delay, drop, duplicate, match

from drivers.bmc import BMC_DRIVERS
from levier.domain import errors
from levier.domain.bmc import Bmc, BmcAddress, BootDevice, BootOverride, Credentials, Firmware, PowerState
from tests.contract.refusing_permit import RefusingPermit
from tests.rig.standing_still import once_heard

BRISK = {"min_interval_s": 0, "settle_after_reset_s": 0, "poll_interval_s": 0.05, "timeout_s": 20, "resend_s": 0.3}

PATIENT = {"timeout_s": 100, "resend_s": 20}
"""For tests that count packets: nothing is resent only because the machine is slow. A fifth of timeout_s counts."""

START: dict[str, Callable[[Path, int], AbstractContextManager[list[BmcPeer]]]] = {
    "ipmi_sim": bmc_peers.ipmi_sims,
    "lab": bmc_peers.lab_bmcs,
    "pyghmi": bmc_peers.scripted_many,
}


FLEET = 80
"""More than the tests below use: each takes fresh BMCs from here, because starting them one by one takes longer."""


@pytest.fixture(scope="module", params=sorted(START))
def fleet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Iterator[BmcPeer]]:
    with START[request.param](tmp_path_factory.mktemp("peers") / "fleet", FLEET) as peers:
        yield iter(peers)


@pytest.fixture
def peer(fleet: Iterator[BmcPeer]) -> BmcPeer:
    return next(fleet)


def driver(peer: BmcPeer, at: BmcAddress | None = None, **options: object) -> Bmc:
    return BMC_DRIVERS["ipmi"](at or peer.address, peer.credentials, options=BRISK | options)


def sent(proxy: UdpProxy) -> list[Datagram]:
    """What the driver sent, oldest first; answers of a slow BMC may come in later."""
    return [datagram for datagram in proxy.seen if datagram.direction is Direction.TO_BMC]


def actions(peer: BmcPeer) -> list[str]:
    return [told.action for told in peer.told()]


# The order of messages inside one session of power_on: privilege, chassis status, chassis control, close session.
CONTROL = 3


def test_power_goes_where_it_is_told(peer: BmcPeer) -> None:
    bmc = driver(peer)
    assert bmc.power_state() is PowerState.OFF
    bmc.power_on()
    assert bmc.power_state() is PowerState.ON
    bmc.power_off()
    assert bmc.power_state() is PowerState.OFF
    bmc.power_on()
    bmc.soft_off(timeout_s=10)
    assert bmc.power_state() is PowerState.OFF
    assert actions(peer) == ["on", "off", "on", "soft off"]


def test_a_state_that_is_already_true_costs_no_command(peer: BmcPeer) -> None:
    bmc = driver(peer)
    bmc.power_off()
    bmc.soft_off()
    assert actions(peer) == []
    bmc.power_on()
    bmc.power_on()
    assert actions(peer) == ["on"]


def test_reset_happens_exactly_once(peer: BmcPeer) -> None:
    bmc = driver(peer)
    bmc.power_on()
    bmc.reset()
    assert actions(peer) == ["on", "reset"]
    assert bmc.power_state() is PowerState.ON


def test_reset_of_a_machine_that_is_off_is_refused_untouched(peer: BmcPeer) -> None:
    with pytest.raises(errors.Rejected, match="off") as caught:
        driver(peer).reset()
    assert caught.value.hint
    assert actions(peer) == []


def test_boot_override_is_set_and_read_back(peer: BmcPeer, caplog: pytest.LogCaptureFixture) -> None:
    bmc = driver(peer)
    devices = (BootDevice.PXE, BootDevice.DISK, BootDevice.CDROM, BootDevice.BIOS_SETUP)
    for device, persistent, firmware in product(devices, (False, True), Firmware):
        wanted = BootOverride(device, persistent=persistent, firmware=firmware)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "drivers.bmc"):
            bmc.set_boot_override(wanted)
        assert peer.boot_device() == device.value
        if peer.facts.reports_boot_flags:
            assert bmc.boot_override() == wanted
            assert not caplog.records
        else:
            assert bmc.boot_override() == BootOverride(BootDevice.NONE)
            assert "is believed" in caplog.text


def test_boot_override_is_cleared(peer: BmcPeer) -> None:
    bmc = driver(peer)
    bmc.set_boot_override(BootOverride(BootDevice.PXE, persistent=True, firmware=Firmware.UEFI))
    bmc.set_boot_override(BootOverride(BootDevice.NONE, firmware=Firmware.UEFI))
    assert bmc.boot_override() == BootOverride(BootDevice.NONE)
    assert peer.boot_device() == "none"


def test_sensors_are_read_in_their_units(peer: BmcPeer) -> None:
    readings = driver(peer).sensors()
    assert {r.name: (r.unit, r.health) for r in readings} == {n: f[1:] for n, f in peer.facts.sensors.items()}
    assert {r.name: r.value for r in readings} == pytest.approx({n: f[0] for n, f in peer.facts.sensors.items()})
    assert [r.name for r in readings] == sorted(peer.facts.sensors)
    assert {r.name: r.kind for r in readings}["FAN1"] == "Fan"


def test_fru_tells_the_identity(peer: BmcPeer) -> None:
    assert driver(peer).fru() == peer.facts.fru


def test_identify_light(peer: BmcPeer) -> None:
    bmc = driver(peer)
    bmc.identify(on=True)
    bmc.identify(on=True, duration_s=15)
    bmc.identify(on=False)
    assert peer.light() == [(0, 1), (15, 0), (0, 0)]


def test_identify_longer_than_ipmi_can_is_unsupported(peer: BmcPeer) -> None:
    with pytest.raises(errors.Unsupported, match="255"):
        driver(peer).identify(on=True, duration_s=256)
    assert peer.light() == []


# ---- refusal and silence -------------------------------------------------------------------------------------------


def test_wrong_password_is_tried_once(peer: BmcPeer) -> None:
    with UdpProxy(peer.address) as proxy:
        wrong = Credentials(peer.credentials.username, "not-it")
        bmc = BMC_DRIVERS["ipmi"](proxy.address, wrong, options=BRISK | PATIENT)
        with pytest.raises(errors.AuthFailed, match="Incorrect password") as caught:
            bmc.power_on()
        assert "credential" in caught.value.hint
        assert "not-it" not in f"{caught.value!r} {caught.value.hint} {wrong!r}"
        assert proxy.count(Direction.TO_BMC, Kind.RAKP1) == 1
        assert proxy.count(Direction.TO_BMC, Kind.RAKP3) == 0
    assert actions(peer) == []
    assert driver(peer).power_state() is PowerState.OFF


def test_nobody_there_is_unreachable() -> None:
    address = BmcAddress("127.0.0.1", free_udp_port())
    bmc = BMC_DRIVERS["ipmi"](address, Credentials("admin", "secret"), options=BRISK | {"timeout_s": 1})
    began = time.monotonic()
    with pytest.raises(errors.Unreachable) as caught:
        bmc.power_on()
    assert "127.0.0.1" in str(caught.value)
    assert str(address.port) in str(caught.value)
    assert "timeout_s" in caught.value.hint
    assert 0.9 < time.monotonic() - began < 30


def test_unknown_name_is_unreachable() -> None:
    address = BmcAddress("bmc.invalid", 623)
    with pytest.raises(errors.Unreachable, match=r"bmc\.invalid:623"):
        BMC_DRIVERS["ipmi"](address, Credentials("admin", "secret"), options=BRISK).power_state()


def mute_from_command(peer: BmcPeer) -> Rule:
    """The BMC is not heard from its reply to the next command on, until the session ends.

    Its own record shows the command: a place among the packets does not, because requests may be resent.
    """
    before, sessions, muted = len(peer.told()), list[int](), set[int]()

    def rule(datagram: Datagram) -> list[Delivery] | None:
        if datagram.direction is Direction.TO_BMC:
            sessions.append(datagram.client)
            return None
        if not muted and len(peer.told()) > before:
            muted.add(sessions[-1])
        return [] if datagram.client in muted else None

    return rule


def lose_command() -> Rule:
    """The first request after the answers to the two before it (privilege, chassis status) is lost."""
    answered = Counter[int]()
    lost: list[int] = []

    def rule(datagram: Datagram) -> list[Delivery] | None:
        if datagram.kind is not Kind.IPMI or lost:
            return None
        if datagram.direction is Direction.TO_CLIENT:
            answered[datagram.client] += 1
        elif answered[datagram.client] >= CONTROL - 1:
            lost.append(datagram.client)
            return []
        return None

    return rule


def test_lost_reply_to_power_on_is_one_command_and_then_observed(peer: BmcPeer) -> None:
    with UdpProxy(peer.address, mute_from_command(peer)) as proxy:
        brisk = driver(peer, proxy.address, timeout_s=1)
        once_heard(lambda: brisk.power_on(timeout_s=60), told=peer.told)
    assert actions(peer) == ["on"]
    assert driver(peer).power_state() is PowerState.ON


def test_lost_reply_to_reset_is_one_command_and_unknown(peer: BmcPeer) -> None:
    driver(peer).power_on()
    with UdpProxy(peer.address, mute_from_command(peer)) as proxy:
        brisk = driver(peer, proxy.address, timeout_s=2, resend_s=0.2)
        with pytest.raises(errors.OutcomeUnknown, match="may or may not") as caught:
            once_heard(brisk.reset, told=peer.told)
        assert "Read the state" in caught.value.hint
    assert actions(peer) == ["on", "reset"]


def test_power_command_lost_on_the_way_is_unknown_and_never_resent(peer: BmcPeer) -> None:
    def lose_and_watch() -> None:
        with UdpProxy(peer.address, lose_command()) as proxy:
            driver(peer, proxy.address, timeout_s=1).power_on(timeout_s=2)

    with pytest.raises(errors.OutcomeUnknown, match=r"not answered.*chassis is off"):
        once_heard(lose_and_watch, told=peer.told)
    driver(peer).power_on()
    assert actions(peer) == ["on"]


def test_bmc_gone_after_the_command_is_unknown(peer: BmcPeer) -> None:
    with UdpProxy(peer.address) as proxy:

        def cut_after_control(datagram: object) -> list[tuple[float, bytes]] | None:
            return [] if len(peer.told()) else None

        proxy.rules.append(cut_after_control)
        brisk = driver(peer, proxy.address, timeout_s=0.5)
        with pytest.raises(errors.OutcomeUnknown, match="could not be read"):
            once_heard(lambda: brisk.power_on(timeout_s=2), told=peer.told)
    assert actions(peer) == ["on"]


def test_lost_read_is_resent(peer: BmcPeer) -> None:
    with UdpProxy(peer.address, drop(match(Direction.TO_CLIENT, Kind.IPMI, nth=2, times=1))) as proxy:
        assert driver(peer, proxy.address, timeout_s=20, resend_s=1.5).power_state() is PowerState.OFF
        assert proxy.count(Direction.TO_BMC, Kind.IPMI) >= 4  # privilege, status, status again, close


@pytest.mark.parametrize(
    "kind", [Kind.SESSIONLESS, Kind.OPEN_RESPONSE, Kind.RAKP2, Kind.RAKP4], ids=lambda kind: kind.name.lower()
)
def test_login_survives_the_loss_of_any_reply(peer: BmcPeer, kind: Kind) -> None:
    with UdpProxy(peer.address, drop(match(Direction.TO_CLIENT, kind, times=1))) as proxy:
        assert driver(peer, proxy.address).power_state() is PowerState.OFF


def test_slow_and_repeated_replies_do_no_harm(peer: BmcPeer) -> None:
    rules = (
        duplicate(match(Direction.TO_CLIENT, Kind.IPMI, nth=2), copies=3, after_s=0.01),
        delay(match(Direction.TO_CLIENT, Kind.IPMI, nth=CONTROL), 0.6),
        duplicate(match(Direction.TO_CLIENT, Kind.RAKP4)),
    )
    with UdpProxy(peer.address, *rules) as proxy:
        bmc = driver(peer, proxy.address)
        bmc.power_on()
        bmc.reset()
        assert bmc.power_state() is PowerState.ON
    assert actions(peer) == ["on", "reset"]


# ---- turns, pace and sessions ---------------------------------------------------------------------------------------


def test_sixteen_threads_on_one_bmc_take_turns(peer: BmcPeer) -> None:
    with UdpProxy(peer.address) as proxy:
        bmcs = [driver(peer, proxy.address, **PATIENT) for _ in range(16)]
        with ThreadPoolExecutor(16) as pool:
            states = list(pool.map(lambda bmc: bmc.power_state(), bmcs))
        turns = [client for client, _ in groupby(datagram.client for datagram in sent(proxy))]
        logins = proxy.count(Direction.TO_BMC, Kind.RAKP3)
    assert states == [PowerState.OFF] * 16
    assert logins == 16
    assert len(turns) <= logins, "sessions overlapped"


def test_sixteen_threads_switching_on_give_one_command(peer: BmcPeer) -> None:
    bmc = driver(peer)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: bmc.power_on(), range(16)))
    assert actions(peer) == ["on"]


def test_thirty_two_bmcs_in_parallel(fleet: Iterator[BmcPeer]) -> None:
    peers = list(islice(fleet, 32))
    assert len(peers) == 32
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda peer: driver(peer, timeout_s=20).power_on(), peers))
        states = list(pool.map(lambda peer: driver(peer, timeout_s=20).power_state(), peers))
    assert states == [PowerState.ON] * 32
    assert [actions(peer) for peer in peers] == [["on"]] * 32


def test_sessions_keep_their_distance(peer: BmcPeer) -> None:
    with UdpProxy(peer.address) as proxy:
        first, second = (driver(peer, proxy.address, min_interval_s=0.5, **PATIENT) for _ in range(2))
        first.power_state()
        second.power_state()
        first.power_on()
        spans = [[d.time for d in seen] for _, seen in groupby(sent(proxy), key=lambda d: d.client)]
    gaps = [later[0] - earlier[-1] for earlier, later in pairwise(spans)]
    assert len(gaps) == 3
    assert min(gaps) >= 0.5


def test_bmc_rests_after_a_reset(peer: BmcPeer) -> None:
    driver(peer).power_on()
    with UdpProxy(peer.address) as proxy:
        bmc = driver(peer, proxy.address, settle_after_reset_s=1.2, **PATIENT)
        bmc.reset()
        bmc.power_state()
        spans = [[d.time for d in seen] for _, seen in groupby(sent(proxy), key=lambda d: d.client)]
    assert len(spans) == 2
    assert spans[1][0] - spans[0][-1] >= 1.1


def test_every_call_logs_out_and_then_is_silent(peer: BmcPeer) -> None:
    with UdpProxy(peer.address) as proxy:
        bmc = driver(peer, proxy.address, **PATIENT)
        for _ in range(70):  # no BMC here has more than 64 slots
            bmc.power_state()
        inside: list[int] = []
        for datagram in sent(proxy):
            if datagram.kind is Kind.RAKP3:
                inside.append(0)
            elif datagram.kind is Kind.IPMI:
                inside[-1] += 1
        assert len(inside) == 70
        assert min(inside) == 3, "not: privilege, chassis status, close session"
        packets = len(sent(proxy))
        bmc.close()
        bmc.close()
        time.sleep(1)  # long enough for anything left open to resend
        assert len(sent(proxy)) == packets
        assert bmc.power_state() is PowerState.OFF


def test_failing_calls_log_out_too(peer: BmcPeer) -> None:
    bmc = driver(peer)
    for _ in range(20):
        with pytest.raises(errors.Rejected):
            bmc.reset()
    assert bmc.power_state() is PowerState.OFF


@pytest.mark.parametrize("packets", [0, 1, 4, 6, 7])
def test_a_fenced_off_worker_sends_nothing_more(peer: BmcPeer, packets: int) -> None:
    """Wherever it learns it: in the login, before the command, before the logout."""
    permit = RefusingPermit(after=packets)
    with UdpProxy(peer.address) as proxy:
        bmc = BMC_DRIVERS["ipmi"](proxy.address, peer.credentials, options=BRISK | PATIENT, permit=permit)
        with pytest.raises(errors.LeaseLost):
            bmc.power_on()
        assert len(sent(proxy)) == packets
    in_session = sum(datagram.kind is Kind.IPMI for datagram in sent(proxy))
    assert actions(peer) == (["on"] if in_session >= CONTROL else [])


def _power_in_child(address: BmcAddress, credentials: Credentials, answer: multiprocessing.SimpleQueue[str]) -> None:
    answer.put(BMC_DRIVERS["ipmi"](address, credentials, options=BRISK).power_state().value)


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_child_processes_can_use_the_bmc(peer: BmcPeer, method: str) -> None:
    driver(peer).power_state()
    context = multiprocessing.get_context(method)
    answer = context.SimpleQueue()
    child = context.Process(target=_power_in_child, args=(peer.address, peer.credentials, answer))
    child.start()
    child.join(120)
    hung = child.is_alive()
    if hung:
        child.kill()
        child.join()
    assert not hung
    assert answer.get() == "off"


def test_another_account_on_the_same_bmc_is_its_own_session(peer: BmcPeer) -> None:
    good = driver(peer)
    bad = BMC_DRIVERS["ipmi"](peer.address, replace(peer.credentials, password="other"), options=BRISK)
    for _ in range(3):
        assert good.power_state() is PowerState.OFF
        with pytest.raises(errors.AuthFailed):
            bad.power_state()
