"""The script that makes a host's bridges, as rendered for a site, on a Debian host with Open vSwitch in user space."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from drivers.ssh import open_host
from levier.domain.ssh import RemoteHost
from levier.services.components import load_components, render_component, view_site
from tests.rig.container import Container, base_tree
from tests.unit.components.sites import ONE_NIC, ONE_NIC_ADDRESSES, TWO_ZONES, site_in

pytestmark = pytest.mark.root

SCRIPT = "/etc/levier/openvswitch/bridges"
HOOK = "/etc/libvirt/hooks/qemu"
NICS = ("eth2", "eth3", "eth4")
OVER_VXLAN = ONE_NIC
BY_NICS = TWO_ZONES.replace("\nsettings:\n", "\nsettings:\n  openvswitch: {datapath: netdev}\n", 1)


@pytest.fixture(scope="module")
def switch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RemoteHost]:
    base = base_tree("bookworm", extra=("openvswitch-switch", "ethtool"))
    container = Container(base, tmp_path_factory.mktemp("switch"))
    try:
        container.start()
        host = open_host(container.target())
        host.run("systemctl start openvswitch-switch", timeout_s=60)
        yield host
        host.close()
    finally:
        container.stop()


@pytest.fixture
def host(switch: RemoteHost) -> Iterator[RemoteHost]:
    """A host with NICs and no bridges."""
    switch.run("; ".join(f"ip link add {nic} type veth peer name {nic}-far" for nic in NICS))
    yield switch
    switch.run("for each in $(ovs-vsctl list-br); do ovs-vsctl del-br $each; done")
    switch.run("; ".join(f"ip link del {nic}" for nic in NICS) + "; ip link del levier-tenant", check=False)


def bridged(host: RemoteHost, text: str, name: str, *, addresses: dict[tuple[str, str], str] | None = None) -> None:
    """The site's host `name` has run its script, twice: a repeat changes nothing."""
    site = site_in(text)
    view = view_site(site, load_components(), ONE_NIC_ADDRESSES | (addresses or {}))
    files = render_component(load_components(), "openvswitch", site=site, view=view, host=name).files
    (script,) = (file for file in files if file.path == SCRIPT)
    for _ in range(2):
        host.run("exec sh -s", stdin=script.content.encode(), timeout_s=60)


def hook_ran(host: RemoteHost, tap: str) -> None:
    """libvirt's hook has been told of a server with that tap that started."""
    site = site_in(ONE_NIC)
    view = view_site(site, load_components(), ONE_NIC_ADDRESSES)
    files = render_component(load_components(), "libvirt", site=site, view=view, host="two").files
    (script,) = (file for file in files if file.path == HOOK)
    host.run(f"install -D -m 755 /dev/stdin {HOOK}", stdin=script.content.encode())
    described = f"<domain><interface type='bridge'>\n  <source bridge='br-int'/>\n  <target dev='{tap}'/>\n</domain>"
    host.run(f"exec {HOOK} instance-1 started begin -", stdin=described.encode(), timeout_s=30)


def flags(host: RemoteHost, nic: str) -> set[str]:
    return set(host.run(f"ip -o link show {nic}").stdout.split("<")[1].split(">")[0].split(","))


def ports(host: RemoteHost, bridge: str) -> list[str]:
    return sorted(host.run(f"ovs-vsctl list-ports {bridge}").stdout.split())


def link(host: RemoteHost) -> str:
    return host.run("ip -d link show levier-tenant", check=False).stdout


def peers(host: RemoteHost) -> set[str]:
    return set(re.findall(r"^00:00:00:00:00:00 dst (\S+)", host.run("bridge fdb show dev levier-tenant").stdout, re.M))


def test_tenants_leave_by_vxlan_or_by_a_nic_and_never_by_both(host: RemoteHost) -> None:
    bridged(host, OVER_VXLAN, "two")
    assert ports(host, "br-tenant") == ["levier-tenant"]
    bridged(host, BY_NICS, "a1-02")
    assert ports(host, "br-tenant") == ["eth2"]
    assert not link(host)
    bridged(host, OVER_VXLAN, "two")
    assert ports(host, "br-tenant") == ["levier-tenant"]
    assert peers(host) == {"10.77.0.10"}


def test_a_link_from_before_there_was_a_mark_goes_too(host: RemoteHost) -> None:
    bridged(host, OVER_VXLAN, "two")
    host.run("ovs-vsctl remove Port levier-tenant external_ids levier")
    bridged(host, BY_NICS, "a1-02")
    assert ports(host, "br-tenant") == ["eth2"]
    assert not link(host)


def test_another_interface_for_external_networks_takes_the_place_of_the_earlier(host: RemoteHost) -> None:
    bridged(host, BY_NICS, "a1-01")
    assert ports(host, "br-ex") == ["eth3"]
    host.run("ip link add operators type veth peer name operators-far; ovs-vsctl add-port br-ex operators")
    try:
        bridged(host, BY_NICS.replace("netdev}", "netdev, external_interface: eth4}"), "a1-01")
        assert ports(host, "br-ex") == ["eth4", "operators"], "what somebody else has added stays"
        assert ports(host, "br-tenant") == ["eth2"]
    finally:
        host.run("ip link del operators")


def test_the_link_follows_the_host_s_address_and_its_peers(host: RemoteHost) -> None:
    bridged(host, OVER_VXLAN, "two")
    assert "local 10.77.0.11 " in link(host)
    moved = {("two", "provisioning"): "10.77.0.21", ("one", "provisioning"): "10.77.0.20"}
    bridged(host, OVER_VXLAN, "two", addresses=moved)
    assert "local 10.77.0.21 " in link(host)
    assert "dstport 4799" in link(host)
    assert peers(host) == {"10.77.0.20"}
    assert ports(host, "br-tenant") == ["levier-tenant"]


def test_a_bridge_that_the_agent_made_secure_stays_so(host: RemoteHost) -> None:
    """One of its own mind lets frames out with numbers that networks have on this host alone."""
    bridged(host, OVER_VXLAN, "one")
    for bridge in ("br-tenant", "br-ex"):
        assert host.run(f"ovs-vsctl get-fail-mode {bridge}").stdout == "secure\n"


def test_a_server_s_tap_is_up_after_the_switch_wrote_over_it(host: RemoteHost) -> None:
    """libvirt had set it up, and the switch writes the flags that it read before."""
    bridged(host, ONE_NIC, "two")
    host.run("ip link add tapa type veth peer name tapa-far; ip link add tapb type veth peer name tapb-far")
    try:
        host.run("ovs-vsctl --timeout=30 add-port br-tenant tapa")
        assert "PROMISC" in flags(host, "tapa")
        assert "UP" not in flags(host, "tapa")
        hook_ran(host, "tapa")
        assert "UP" in flags(host, "tapa")
        host.run("(sleep 1; ovs-vsctl --timeout=30 add-port br-tenant tapb) > /dev/null 2>&1 &")
        hook_ran(host, "tapb")
        assert {"UP", "PROMISC"} <= flags(host, "tapb"), "it had waited until the switch had written the flags"
    finally:
        host.run("ovs-vsctl --if-exists del-port tapa -- --if-exists del-port tapb; ip link del tapa; ip link del tapb")
