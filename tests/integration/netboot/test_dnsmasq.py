"""dnsmasq under Levier's control, asked by real DHCP and TFTP clients in network namespaces."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from drivers.netboot.dnsmasq import DnsmasqHosts, DnsmasqServer, exec_in_foreground, wait_until_serving
from drivers.netboot.dnsmasq_config import DnsmasqConfig, write_config
from levier.domain.errors import Conflict, InvalidRequest, Rejected, Unreachable
from levier.domain.netboot import DhcpHost, ProvisioningNetwork
from tests.integration.netboot.provisioning_net import BRIDGE, SERVER, ProvisioningNet, run

pytestmark = pytest.mark.root

KNOWN = "52:54:00:00:00:01"
OTHER = "52:54:00:00:00:02"
HOST = DhcpHost(mac=KNOWN, address="10.77.0.11", hostname="a1-01")
CHAIN = f"http://{SERVER}:8480/boot.ipxe"


@pytest.fixture
def net() -> Iterator[ProvisioningNet]:
    with ProvisioningNet() as network:
        yield network


@pytest.fixture
def config(net: ProvisioningNet) -> DnsmasqConfig:
    network = ProvisioningNetwork(interface=BRIDGE, server_address=SERVER, prefix_length=24)
    return DnsmasqConfig(state_dir=net.directory / "dhcp", networks=(network,), http_port=8480, netns=net.name)


@pytest.fixture
def server(config: DnsmasqConfig) -> Iterator[DnsmasqServer]:
    server = DnsmasqServer(config)
    server.start()
    yield server
    server.stop()


def test_each_firmware_gets_its_own_boot_file(net: ProvisioningNet, server: DnsmasqServer) -> None:
    server.set_hosts([HOST])
    client = net.add_client(KNOWN)
    answers = {
        "bios": client.bios(),
        "uefi 7": client.uefi(7),
        "uefi 9": client.uefi(9),
        "ipxe": client.ipxe(),
        "an operating system": client.ask(),
    }
    assert {k: a and a.boot_file for k, a in answers.items()} == {
        "bios": "undionly.kpxe",
        "uefi 7": "snponly.efi",
        "uefi 9": "snponly.efi",
        "ipxe": CHAIN,
        "an operating system": "",
    }
    for answer in answers.values():
        assert answer is not None
        assert (answer.address, answer.router, answer.dns) == ("10.77.0.11", "", "")
        assert answer.next_server == SERVER


def test_only_published_machines_are_answered(net: ProvisioningNet, server: DnsmasqServer) -> None:
    known, other = net.add_client(KNOWN), net.add_client(OTHER)
    assert known.ask(tries=2) is None
    server.set_hosts([HOST])
    assert other.ask(tries=2) is None
    answer = known.ask()
    assert answer is not None
    assert answer.address == HOST.address
    server.set_hosts([])
    assert known.ask(tries=2) is None


def test_an_address_passes_to_another_machine_at_once(
    net: ProvisioningNet, server: DnsmasqServer, config: DnsmasqConfig
) -> None:
    first, second = net.add_client(KNOWN), net.add_client(OTHER)
    hosts = DnsmasqHosts(config)
    server.set_hosts([HOST])
    assert not hosts.lease_given(KNOWN)
    assert first.ask() is not None
    assert hosts.lease_given(KNOWN)
    server.set_hosts([replace(HOST, mac=OTHER)])
    assert hosts.leases() == ()
    answer = second.ask()
    assert answer is not None
    assert answer.address == HOST.address
    # and a machine that keeps its entry keeps its lease, whoever else comes and goes
    server.set_hosts([replace(HOST, mac=OTHER), DhcpHost(mac=KNOWN, address="10.77.0.12", hostname="a1-02")])
    assert [lease.mac for lease in hosts.leases()] == [OTHER]


def test_boot_loaders_come_over_tftp_unchanged(net: ProvisioningNet, server: DnsmasqServer) -> None:
    client = net.add_client(KNOWN)
    client.configure("10.77.0.11")
    for name in ("undionly.kpxe", "snponly.efi"):
        assert client.fetch(f"tftp://{SERVER}/{name}") == Path("/usr/lib/ipxe", name).read_bytes()
    for name in ("../hosts", "/etc/hostname"):
        with pytest.raises(AssertionError):
            client.fetch(f"tftp://{SERVER}/{name}")


def test_names_are_not_served(net: ProvisioningNet, server: DnsmasqServer) -> None:
    listening = run(*net.inside("ss", "-Hlntu")).stdout
    assert ":69 " in listening
    assert ":53 " not in listening


def test_privileges_are_dropped(server: DnsmasqServer) -> None:
    assert server.pid is not None
    assert os.stat(f"/proc/{server.pid}").st_uid != 0


def _publish_once(config: DnsmasqConfig) -> None:
    DnsmasqHosts(config).publish(lambda: [HOST])


def test_another_process_publishes(net: ProvisioningNet, server: DnsmasqServer, config: DnsmasqConfig) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_publish_once, args=(config,))
    process.start()
    process.join(timeout=60)
    assert process.exitcode == 0
    assert net.add_client(KNOWN).ask() is not None


def test_many_publish_at_once_and_the_last_read_counts(server: DnsmasqServer, config: DnsmasqConfig) -> None:
    current: list[DhcpHost] = []

    def add(number: int) -> None:
        current.append(DhcpHost(mac=f"52:54:00:00:01:{number:02x}", address=f"10.77.0.{number}", hostname=f"n{number}"))
        DnsmasqHosts(config).publish(lambda: tuple(current))

    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(10, 50)))
    each_ms = (time.monotonic() - began) / 40 * 1000
    print(f"publishing: {each_ms:.0f} ms each")
    assert len(config.files.hosts.read_text().splitlines()) == 40


def test_hosts_published_while_nothing_runs_count_from_the_start(net: ProvisioningNet, config: DnsmasqConfig) -> None:
    with pytest.raises(Unreachable, match="not running"):
        DnsmasqHosts(config).publish(lambda: [HOST])
    server = DnsmasqServer(config)
    server.start()
    try:
        assert net.add_client(KNOWN).ask() is not None
    finally:
        server.stop()
    assert not server.running


def test_a_foreign_process_is_never_signalled(server: DnsmasqServer, config: DnsmasqConfig) -> None:
    pid = server.pid
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        config.files.pid.write_text(f"{bystander.pid}\n")
        assert not server.running
        with pytest.raises(Unreachable):
            server.set_hosts([HOST])
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
        config.files.pid.write_text(f"{pid}\n")
    assert server.running


def test_one_left_behind_is_replaced(net: ProvisioningNet, config: DnsmasqConfig, server: DnsmasqServer) -> None:
    server.set_hosts([HOST])
    orphan = server.pid
    successor = DnsmasqServer(config)
    successor.start()
    try:
        assert successor.pid not in (None, orphan)
        assert net.add_client(KNOWN).ask() is not None
    finally:
        successor.stop()


def test_killed_and_started_again_it_keeps_leases(
    net: ProvisioningNet, config: DnsmasqConfig, server: DnsmasqServer
) -> None:
    server.set_hosts([HOST])
    assert net.add_client(KNOWN).ask() is not None
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while server.running:
        assert time.monotonic() < deadline
    server.start()
    assert DnsmasqHosts(config).lease_given(KNOWN)
    with pytest.raises(Conflict):
        server.start()


def test_run_by_a_supervisor(net: ProvisioningNet, config: DnsmasqConfig) -> None:
    process = multiprocessing.get_context("fork").Process(target=exec_in_foreground, args=(config,))
    process.start()
    try:
        wait_until_serving(config)
        assert process.pid == DnsmasqServer(config).pid, "the supervisor's child must be dnsmasq itself"
        DnsmasqHosts(config).publish(lambda: [HOST])
        assert net.add_client(KNOWN).ask() is not None
    finally:
        process.terminate()
        process.join(timeout=10)
    assert not DnsmasqServer(config).running


def test_dnsmasqs_own_words_on_a_missing_interface(config: DnsmasqConfig) -> None:
    network = replace(config.networks[0], interface="nosuch0")
    with pytest.raises(Rejected, match="nosuch0"):
        DnsmasqServer(replace(config, networks=(network,))).start()


def test_a_state_directory_its_user_cannot_reach_is_refused(config: DnsmasqConfig, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(InvalidRequest, match="cannot reach"):
        write_config(replace(config, state_dir=tmp_path / "dhcp"))


def test_the_advertised_prefix_is_there_while_it_serves(net: ProvisioningNet, config: DnsmasqConfig) -> None:
    """iPXE waits 13 s where there is none."""
    client = net.add_client(KNOWN)
    base = str(config.prefixes[0].base)

    def addresses(*where: str) -> str:
        return run("ip", *where, "-6", "address", "show", "to", f"{base}/64").stdout

    server = DnsmasqServer(config)
    server.start()
    try:
        assert "deprecated" in addresses("-n", net.name)
        deadline = time.monotonic() + 30
        while "inet6" not in addresses("-n", client.namespace):
            assert time.monotonic() < deadline, "no router advertisement"
            time.sleep(0.1)  # between two looks at what the kernel made of the advertisements
        assert run("ip", "-n", client.namespace, "-6", "route", "show", "default").stdout == ""
    finally:
        server.stop()
    assert addresses("-n", net.name) == ""
