"""dnsmasq's files, as text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from drivers.netboot.dnsmasq_config import DnsmasqConfig, render_config, render_hosts
from levier.domain.errors import InvalidRequest
from levier.domain.netboot import DhcpHost, ProvisioningNetwork

GOLDEN = Path(__file__).parent / "dnsmasq.golden.conf"
EAST = ProvisioningNetwork(interface="br0", server_address="10.77.0.1", prefix_length=24)
WEST = ProvisioningNetwork(
    interface="br1", server_address="10.78.0.1", prefix_length=23, gateway="10.78.1.254", dns=("10.78.0.2", "10.78.0.3")
)
CONFIG = DnsmasqConfig(state_dir=Path("/run/levier/netboot"), networks=(EAST, WEST), http_port=8480)


def test_configuration_golden() -> None:
    assert render_config(CONFIG) == GOLDEN.read_text()


def test_router_advertisement_can_be_left_out() -> None:
    text = render_config(replace(CONFIG, router_advertisement=False))
    assert "enable-ra" not in text
    assert "ra-only" not in text
    assert "dhcp-range=set:net0,10.77.0.0,static,255.255.255.0,600" in text


@pytest.mark.parametrize(
    "config",
    [
        replace(CONFIG, networks=()),
        replace(CONFIG, state_dir=Path("/run/with space")),
        replace(CONFIG, state_dir=Path("relative")),
        replace(CONFIG, networks=(EAST, replace(WEST, server_address="10.77.0.2"))),
        replace(CONFIG, networks=(replace(EAST, interface="br0\ndhcp-script=/bin/sh"),)),
        replace(CONFIG, networks=(replace(EAST, server_address="10.77.0"),)),
        replace(CONFIG, networks=(replace(WEST, dns=("10.78.0.2\nx",)),)),
        replace(CONFIG, networks=(replace(EAST, prefix_length=32),)),
    ],
)
def test_what_dnsmasq_could_not_serve_is_refused(config: DnsmasqConfig) -> None:
    with pytest.raises(InvalidRequest):
        render_config(config)


def test_hosts_are_sorted_and_named_by_their_first_label() -> None:
    hosts = [
        DhcpHost(mac="52:54:00:00:00:02", address="10.77.0.12", hostname="a1-02.example.net"),
        DhcpHost(mac="52:54:00:00:00:01", address="10.77.0.11", hostname="a1-01"),
    ]
    assert render_hosts(hosts) == "52:54:00:00:00:01,10.77.0.11,a1-01\n52:54:00:00:00:02,10.77.0.12,a1-02\n"


@pytest.mark.parametrize(
    "host",
    [
        DhcpHost(mac="*:*:*:*:*:*", address="10.77.0.11", hostname="a"),
        DhcpHost(mac="52:54:00:00:00:01", address="10.77.0.11,x", hostname="a"),
        DhcpHost(mac="52:54:00:00:00:01", address="10.77.0.11", hostname="a,set:evil"),
        DhcpHost(mac="52:54:00:00:00:01", address="10.77.0.11", hostname=""),
    ],
)
def test_hosts_that_would_mean_something_else_are_refused(host: DhcpHost) -> None:
    with pytest.raises(InvalidRequest):
        render_hosts([host])


def test_interface_of_an_address() -> None:
    assert CONFIG.interface_of("10.78.1.7") == "br1"
    assert CONFIG.interface_of("192.0.2.1") == ""
