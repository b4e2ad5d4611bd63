"""What must hold between networks, ranges and addresses of a site document."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from itertools import combinations

from levier.domain.problems import Finding, Path
from levier.domain.site_document import Entry, Located, Span, read_span
from levier.domain.site_types import Address, Cidr, EndpointHost, HostLabel

_NO_BROADCAST = 31
"""From this prefix length on a network has neither network nor broadcast address (RFC 3021)."""


@dataclass(frozen=True, slots=True)
class _Net:
    entry: Entry
    cidr: Located[IPv4Network]
    server_side: tuple[tuple[str, Located[IPv4Address]], ...]
    """Gateway and server address, where they are valid."""
    dhcp: Span | None
    hosts: Span | None

    @property
    def reserved(self) -> tuple[IPv4Address, ...]:
        """The network's own and the broadcast address."""
        net = self.cidr.value
        return () if net.prefixlen >= _NO_BROADCAST else (net.network_address, net.broadcast_address)

    @property
    def usable(self) -> str:
        """The addresses that a machine can have, as the half of a sentence."""
        net = self.cidr.value
        low, high = net.network_address, net.broadcast_address
        return f"expected {low + 1} to {high - 1}" if self.reserved else f"expected {low} to {high}"

    def misplaced(self, address: IPv4Address) -> str:
        """Why no machine on this network can have `address`; empty when one can."""
        if address not in self.cidr.value:
            return f"{address} is outside of {self.cidr.value}"
        if address in self.reserved:
            which = "network" if address == self.cidr.value.network_address else "broadcast"
            return f"{address} is the {which} address of {self.cidr.value}"
        return ""


@dataclass(frozen=True, slots=True)
class _Fixed:
    nic: Entry
    node: Entry
    at: Located[IPv4Address]
    network: str


def address_findings(root: Entry) -> Iterator[Finding]:
    """Every contradiction between networks, ranges and addresses."""
    nets = [net for net in map(_net, root.entries("networks")) if net]
    fixed = list(_fixed(root))
    by_name: dict[str, _Net] = {}
    for net in nets:
        if at := net.entry.read("name", HostLabel):
            by_name.setdefault(at.value, net)
    yield from _needed_for_provisioning(root)
    yield from _overlapping_networks(nets)
    for net in nets:
        yield from _server_side_findings(net)
        yield from _range_findings(net)
    for each in fixed:
        if each.nic.lacks("network"):
            yield Finding(each.at.path, "an address without a network", "expected the NIC's network beside it")
        if each.network in by_name:
            yield from _fixed_findings(each, by_name[each.network])
    yield from _used_twice(root, fixed)
    yield from _handed_out(root, nets)
    for name, net in by_name.items():
        yield from _capacity_findings(root, net, name, [each.at.value for each in fixed if each.network == name])


def _net(entry: Entry) -> _Net | None:
    cidr = entry.read("cidr", Cidr)
    found = ((key, entry.read(key, Address)) for key in ("gateway", "server_address"))
    server_side = tuple((key, at) for key, at in found if at)
    dhcp, hosts = read_span(entry, "dhcp_range"), read_span(entry, "host_range")
    return _Net(entry, cidr, server_side, dhcp, hosts) if cidr else None


def _fixed(root: Entry) -> Iterator[_Fixed]:
    for node in root.entries("nodes"):
        for nic in node.entries("nics"):
            at, network = nic.read("address", Address), nic.read("network", HostLabel)
            if at:
                yield _Fixed(nic, node, at, network.value if network else "")


def _needed_for_provisioning(root: Entry) -> Iterator[Finding]:
    needs = {
        "interface": "the interface of the Levier server there",
        "server_address": "the address of the Levier server there",
    }
    for network in root.entries("networks"):
        # An interface is needed only to serve DHCP and TFTP on it; HTTP is served on every address.
        external = network.content.get("dhcp") == "external"
        for key, what in needs.items():
            if external and key == "interface":
                continue
            if network.content.get("purpose") == "provisioning" and network.lacks(key):
                yield Finding((*network.path, key), "is missing, and nodes boot from this network", f"expected {what}")


def _overlapping_networks(nets: list[_Net]) -> Iterator[Finding]:
    for first, second in combinations(nets, 2):
        if first.cidr.value.overlaps(second.cidr.value):
            message = f"{second.cidr.value} overlaps {first.cidr.value} of {first.entry}"
            yield Finding(
                second.cidr.path, message, "expected networks without a common address", related=first.cidr.path
            )


def _server_side_findings(net: _Net) -> Iterator[Finding]:
    for _, at in net.server_side:
        if why := net.misplaced(at.value):
            yield Finding(at.path, why, net.usable)


def _range_findings(net: _Net) -> Iterator[Finding]:
    spans = [span for span in (net.dhcp, net.hosts) if span]
    for span in spans:
        for key, address in (("start", span.first), ("end", span.last)):
            if why := net.misplaced(address):
                yield Finding((*span.path, key), why, net.usable)
        if span.first > span.last:
            yield Finding(span.path, f"start {span.first} is after end {span.last}", "expected start before end")
        for key, at in net.server_side:
            if at.value in span:
                message = f"the range {span} holds the {key} {at.value}"
                yield Finding(span.path, message, "expected a range without it", related=at.path)
    if net.dhcp and net.hosts and net.dhcp.overlaps(net.hosts):
        message = f"the range {net.hosts} overlaps the dhcp_range {net.dhcp}"
        yield Finding(net.hosts.path, message, "expected ranges without a common address", related=net.dhcp.path)


def _fixed_findings(fixed: _Fixed, net: _Net) -> Iterator[Finding]:
    address, path = fixed.at.value, fixed.at.path
    if why := net.misplaced(address):
        yield Finding(path, f"{why} ({net.entry})", net.usable, related=net.cidr.path)
    for key, at in net.server_side:
        if at.value == address:
            yield Finding(
                path, f"{address} is the {key} of {net.entry}", "expected an address of its own", related=at.path
            )
    if net.dhcp and address in net.dhcp:
        message = f"{address} lies in the dhcp_range {net.dhcp} of {net.entry}"
        yield Finding(path, message, "expected an address outside of that range", related=net.dhcp.path)


def _used_twice(root: Entry, fixed: list[_Fixed]) -> Iterator[Finding]:
    first: dict[str, tuple[Entry, Path]] = {}
    for each in fixed:
        node, path = first.setdefault(str(each.at.value), (each.node, each.at.path))
        if path != each.at.path:
            message = f"the address {each.at.value} is already that of {node}"
            yield Finding(each.at.path, message, "expected each only once", related=path)
    for at in _bmc_addresses(root):
        if at.value in first:
            owner, path = first[at.value]
            message = f"the address {at.value} is already that of a NIC of {owner}"
            yield Finding(at.path, message, "expected an address of the BMC's own", related=path)


def _bmc_addresses(root: Entry) -> Iterator[Located[str]]:
    for node in root.entries("nodes"):
        bmc = node.inner("bmc")
        at = bmc.read("address", EndpointHost) if bmc else None
        if at:
            yield at


def _handed_out(root: Entry, nets: list[_Net]) -> Iterator[Finding]:
    """BMCs whose address Levier could give to a host."""
    ranges = [
        (net, key, span) for net in nets for key, span in (("dhcp_range", net.dhcp), ("host_range", net.hosts)) if span
    ]
    for at in _bmc_addresses(root):
        try:
            address = IPv4Address(at.value)
        except ValueError:
            continue
        for net, key, span in ranges:
            if address in span:
                message = f"the BMC's address {address} lies in the {key} {span} of {net.entry}"
                yield Finding(at.path, message, "expected an address that no host can be given", related=span.path)


def _capacity_findings(root: Entry, net: _Net, name: str, fixed: list[IPv4Address]) -> Iterator[Finding]:
    needing = 0
    for node in root.entries("nodes"):
        for nic in node.entries("nics"):
            network = nic.read("network", HostLabel)
            needing += bool(network and network.value == name and nic.lacks("address"))
    if needing and net.entry.lacks("host_range"):
        message = f"is missing, and {needing} NICs on this network have no fixed address"
        yield Finding((*net.entry.path, "host_range"), message, f"expected a range of at least {needing} addresses")
    elif needing and net.hosts:
        free = net.hosts.size - len({each for each in fixed if each in net.hosts})
        if free < needing:
            message = f"the range {net.hosts} has {free} free addresses for {needing} NICs without a fixed address"
            yield Finding(net.hosts.path, message, f"expected {needing - free} addresses more, or fixed addresses")
