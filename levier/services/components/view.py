"""What a template may know of the site: hosts, where they are reached, and what runs on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from levier.domain.component_placement import Components, components_of
from levier.domain.errors import InvalidRequest, NotFound
from levier.domain.install_plan import IDENTITY, PROXY, pillars
from levier.domain.site import Network, NetworkPurpose, NicSpec, Node, Role, Site

Addresses = Mapping[tuple[str, str], str]
"""Allocated addresses by (node, network)."""

SWITCH = "openvswitch"


@dataclass(frozen=True, slots=True)
class NicView:
    """A network interface on a network."""

    name: str
    network: str
    purpose: NetworkPurpose
    address: str
    """Empty where the interface has none, or none yet."""
    prefix_length: int


@dataclass(frozen=True, slots=True)
class HostView:
    """One host."""

    name: str
    fqdn: str
    zone: str
    roles: tuple[Role, ...]
    address: str
    """On the internal network; empty while it has none: it is not up yet, or it fell and was undone."""
    nics: tuple[NicView, ...]
    components: tuple[str, ...]
    """In dependency order."""

    def reached_at(self) -> str:
        """The internal address. Raises NotFound while it has none."""
        if not self.address:
            raise NotFound(
                f"{self.name} has no address on the internal network yet",
                hint=f"bring it up (levier expand {self.name}), or give its NIC a fixed address",
            )
        return self.address

    def nic_for(self, purpose: str) -> NicView | None:
        """The first interface on a network for `purpose`; None when there is none."""
        return next((each for each in self.nics if each.purpose.value == purpose), None)


@dataclass(frozen=True, slots=True)
class SiteView:
    """The site."""

    name: str
    region: str
    release: str
    """Empty where the site file names none."""
    internal_cidr: str
    public_host: str
    hosts: tuple[HostView, ...]
    zones: tuple[str, ...]

    def host(self, name: str) -> HostView:
        """The host of that name; KeyError when there is none."""
        return {each.name: each for each in self.hosts}[name]

    def hosts_with(self, component: str) -> tuple[HostView, ...]:
        """The hosts that run a component, by name; empty when none does."""
        return tuple(each for each in self.hosts if component in each.components)

    @property
    def tenants_over_vxlan(self) -> bool:
        """Whether tenants' frames travel in VXLAN over the internal network: some host has no NIC for them."""
        return any(each.nic_for("tenant") is None for each in self.hosts_with(SWITCH))

    def runs(self, component: str) -> bool:
        """Whether any host runs it."""
        return bool(self.hosts_with(component))


def view_site(site: Site, components: Components, addresses: Addresses) -> SiteView:
    """The view of `site`. Only nodes with roles are hosts of the cloud. Pure.

    Raises NotFound when one that others build on has no address yet, InvalidRequest when one is not on the internal
    network. A host that nothing builds on may have none: it may fall while others are installed.
    """
    network = internal_network(site)
    hosts = tuple(_host(site, node, components, addresses, network) for node in site.nodes if node.roles)
    if not all(each.address for each in hosts):
        needed = pillars(site, components)
        for each in hosts:
            if each.name in needed:
                each.reached_at()
    return SiteView(
        name=site.site.name,
        region=site.openstack.region,
        release=site.release or "",
        internal_cidr=str(network.cidr),
        public_host=site.openstack.public_host or _public_address(hosts),
        hosts=hosts,
        zones=tuple(each.name for each in site.zones),
    )


def internal_network(site: Site) -> Network:
    """The network on which the services talk. Raises InvalidRequest when there is none."""
    if site.openstack.internal_network:
        return site.network(site.openstack.internal_network)
    for purpose in (NetworkPurpose.MANAGEMENT, NetworkPurpose.PROVISIONING):
        found = [each for each in site.networks if each.purpose is purpose]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(each.name for each in found)
            raise InvalidRequest(
                f"there are {len(found)} networks for {purpose.value}: {names}",
                hint="say which one the services talk on: openstack: {internal_network: NAME}",
            )
    raise InvalidRequest("the site has no network", hint="add one under networks: in the site file")


def _host(site: Site, node: Node, components: Components, addresses: Addresses, internal: Network) -> HostView:
    nics = tuple(_nic(site, node, nic, addresses) for nic in node.nics if nic.network)
    own = next((each for each in nics if each.network == internal.name), None)
    if own is None:
        raise InvalidRequest(
            f"{node.name} has no NIC on the internal network {internal.name}",
            hint="attach one in the site file, or choose another openstack.internal_network",
        )
    return HostView(
        name=node.name,
        fqdn=site.fqdn(node),
        zone=site.zone_of(node),
        roles=node.roles,
        address=own.address,
        nics=nics,
        components=tuple(each.name for each in components_of(site, node, components)),
    )


def _nic(site: Site, node: Node, nic: NicSpec, addresses: Addresses) -> NicView:
    network = site.network(str(nic.network))
    address = str(nic.address) if nic.address else addresses.get((node.name, network.name), "")
    return NicView(nic.name, network.name, network.purpose, address, network.cidr.prefixlen)


def _public_address(hosts: tuple[HostView, ...]) -> str:
    """On the proxy's first host, else on keystone's: on its external network where it has one."""
    for component in (PROXY, IDENTITY):
        for host in hosts:
            if component in host.components:
                external = host.nic_for(NetworkPurpose.EXTERNAL.value)
                return external.address if external and external.address else host.address
    return hosts[0].address if hosts else ""
