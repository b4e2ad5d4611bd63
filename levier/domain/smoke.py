"""The smoke test of a cloud: what its servers are called, where they are, what they say, and what is expected. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from ipaddress import IPv4Network

from levier.domain.component_placement import Components, components_of
from levier.domain.component_settings import effective_settings
from levier.domain.site import Node, Site

PREFIX = "levier-smoke-"
CIDR = IPv4Network("198.18.0.0/16")
"""For measurements within a network (RFC 2544): nobody's own addresses."""
GATEWAY = str(CIDR[1])
POOL = (str(CIDR[0xFF00]), str(CIDR[0xFFFE]))
"""What neutron takes for itself, such as its DHCP ports. The servers are below."""
_FIRST_SERVER = 10
VOLUME_GIB = 1
SERVER_NEEDS: Mapping[str, int] = {"VCPU": 1, "MEMORY_MB": 128, "DISK_GB": 1}
"""What a server of the test takes of its host, by placement's classes of resources."""
_NEIGHBOURS = 8

COMPUTE, VOLUMES, VNC = "nova-compute", "cinder-volume", "nova-novncproxy"
IMAGES, IDENTITY, COMPUTE_API = "glance", "keystone", "nova-api"
DHCP, ROUTER, METADATA = "neutron-dhcp-agent", "neutron-l3-agent", "neutron-metadata-agent"
FAKE = "fake"
_MARK = re.compile(r"LEVIER-SMOKE ([^\r\n]*)")


class Check(StrEnum):
    """What the test shows of a compute host."""

    SERVER = "server"
    """A server runs on exactly this host."""
    ADDRESS = "address"
    """It has its address by neutron's DHCP."""
    METADATA = "metadata"
    """It got its user data."""
    ROUTER = "router"
    """It reaches its router."""
    PEERS = "peers"
    """It reaches the servers on the other hosts, by ping and HTTP."""
    VOLUME = "volume"
    """It writes to a volume and reads it back."""
    SCREEN = "screen"
    """Its screen is shown."""


def smoke_name(operation: str) -> str:
    """The name of all that the test of this operation makes, also of its project; a host's own things add the host."""
    return PREFIX + operation


def server_name(operation: str, host: str) -> str:
    """The name of the server on the host, of its port and its volume."""
    return f"{smoke_name(operation)}-{host}"


def server_addresses(hosts: Sequence[str]) -> dict[str, str]:
    """Host → the address of its server. The same hosts always give the same."""
    return {host: str(CIDR[_FIRST_SERVER + n]) for n, host in enumerate(sorted(hosts))}


def user_data(peers: Collection[str]) -> str:
    """What the server at an address is told: whom to reach."""
    return "".join([*(f"peer={each}\n" for each in sorted(peers)), "end\n"])


# --- what is to be checked -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SmokeScope:
    """What the test of a site covers."""

    hosts: tuple[str, ...]
    """The compute hosts."""
    left_out: Mapping[str, Mapping[Check, str]]
    """Host → what cannot be checked there, and why."""
    not_there: Mapping[str, str] = field(default_factory=dict)
    """What cannot be checked anywhere, and why."""

    def covers(self, host: str, check: Check) -> bool:
        """The check is made of the host."""
        return check not in self.left_out[host]


def smoke_scope(site: Site, components: Components) -> SmokeScope:
    """What can be checked of the site: as far as it has the components for it."""
    layout = {node.name: frozenset(each.name for each in components_of(site, node, components)) for node in site.nodes}
    anywhere = frozenset().union(*layout.values()) if layout else frozenset()
    computes = tuple(node for node in site.nodes if COMPUTE in layout[node.name])
    talking = [node.name for node in computes if not _is_fake(site, node, components)]
    stores = {node.name: node for node in site.nodes if VOLUMES in layout[node.name]}
    left_out = {}
    for node in computes:
        reasons = dict(_missing(anywhere))
        if node.name not in talking:
            reasons |= dict.fromkeys(_OF_A_GUEST, "the hypervisor is fake: no server really runs")
        elif len(talking) < 2 and Check.PEERS not in reasons:
            reasons[Check.PEERS] = "no other compute host has a server to talk to"
        if Check.VOLUME not in reasons and (reason := _no_volume(site, node, stores, components)):
            reasons[Check.VOLUME] = reason
        left_out[node.name] = reasons
    return SmokeScope(tuple(node.name for node in computes), left_out, dict(_nowhere(anywhere)))


_OF_A_GUEST = tuple(each for each in Check if each is not Check.SERVER)


def _is_fake(site: Site, node: Node, components: Components) -> bool:
    return _setting(site, node, components[COMPUTE].name, "hypervisor", components) == FAKE


def _setting(site: Site, node: Node, component: str, setting: str, components: Components) -> object:
    return effective_settings(site, node, components[component]).values.get(setting)


def _missing(anywhere: Collection[str]) -> Iterator[tuple[Check, str]]:
    """A guest tells its peers from its user data, and gets that only with an address."""
    needed = {
        Check.ADDRESS: (DHCP,),
        Check.METADATA: (DHCP, METADATA),
        Check.ROUTER: (DHCP, ROUTER),
        Check.PEERS: (DHCP, METADATA),
        Check.VOLUME: (VOLUMES,),
        Check.SCREEN: (VNC,),
    }
    for check, names in needed.items():
        if absent := [name for name in names if name not in anywhere]:
            yield check, f"no host runs {absent[0]}"


def _no_volume(site: Site, node: Node, stores: Mapping[str, Node], components: Components) -> str:
    """Volumes in a directory of their host can be attached there only (docs/components.md, Volumes)."""
    local = [name for name, store in stores.items() if _is_local(site, store, components)]
    if not local or (local == [node.name] and len(stores) == 1):
        return ""
    return f"volumes are a directory of {', '.join(local)}, which servers elsewhere cannot attach"


def _is_local(site: Site, store: Node, components: Components) -> bool:
    return _setting(site, store, VOLUMES, "backend", components) == "nfs" and not _setting(
        site, store, VOLUMES, "nfs_shares", components
    )


def _nowhere(anywhere: Collection[str]) -> Iterator[tuple[str, str]]:
    if IMAGES not in anywhere:
        yield "image", f"no host runs {IMAGES}"
    if COMPUTE_API not in anywhere or COMPUTE not in anywhere:
        absent = COMPUTE_API if COMPUTE_API not in anywhere else COMPUTE
        yield "servers", f"no host runs {absent}: only a token and an image were tried"


# --- what a server says ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SeenVolume:
    """A volume as the server sees it. Size in bytes."""

    size_bytes: int
    io_works: bool
    is_there: bool = True


@dataclass(frozen=True, slots=True)
class GuestReport:
    """What a server has said on its serial console so far; of a subject the last word counts."""

    started: bool = False
    address: str = ""
    mtu: int = 0
    metadata: bool = False
    gateway: bool = False
    peers: Mapping[str, str] = field(default_factory=dict)
    """Address → what worked, in the server's words; `REACHED` when everything did."""
    volumes: Mapping[str, SeenVolume] = field(default_factory=dict)
    done: bool = False


REACHED = "ping=ok http=ok"


def read_console(text: str) -> GuestReport:
    """What the console's text says of the server. Lines of others, and broken ones, are passed over."""
    peers: dict[str, str] = {}
    volumes: dict[str, SeenVolume] = {}
    facts: dict[str, str] = {}
    words: set[str] = set()
    for line in _MARK.findall(text):
        said = dict(part.split("=", 1) for part in line.split() if "=" in part)
        words |= {part for part in line.split() if "=" not in part}
        if "peer" in said:
            peers[said["peer"]] = " ".join(f"{key}={value}" for key, value in said.items() if key != "peer")
        elif "volume" in said:
            volumes[said["volume"]] = _volume(line, said, volumes.get(said["volume"]))
        elif "gateway" in said:
            facts["gateway"] = said.get("ping", "no")
        else:
            facts |= said
    return GuestReport(
        started="started" in words,
        address=facts["address"].partition("/")[0] if facts.get("address", "no") != "no" else "",
        mtu=int(facts["mtu"]) if facts.get("mtu", "").isdigit() else 0,
        metadata=facts.get("metadata") == "ok",
        gateway=facts.get("gateway") == "ok",
        peers=peers,
        volumes=volumes,
        done="done" in words,
    )


def _volume(line: str, said: Mapping[str, str], before: SeenVolume | None) -> SeenVolume:
    """Of one that went it is known what it was; of one that came, what is said now."""
    if line.split()[-1] == "gone":
        return replace(before or SeenVolume(0, False), is_there=False)
    size = int(said["size"]) if said.get("size", "").isdigit() else 0
    return SeenVolume(size, said.get("io") == "ok")


def lacking(
    report: GuestReport, scope: SmokeScope, host: str, *, alive: Collection[str] | None = None
) -> tuple[str, ...]:
    """What the server on the host has not said yet, a sentence each; empty when it has said everything.

    `alive` are the hosts whose servers are there to be reached; None: all of them.
    """
    addresses = server_addresses(scope.hosts)
    own = addresses[host]
    if not report.started:
        return ("it has not started",)
    found = []
    if scope.covers(host, Check.ADDRESS) and report.address != own:
        found.append(f"it has {report.address or 'no address'} by DHCP, not {own}")
    if scope.covers(host, Check.METADATA) and not report.metadata:
        found.append("it has no answer from the metadata service")
    if scope.covers(host, Check.ROUTER) and not report.gateway:
        found.append(f"its router {GATEWAY} does not answer a ping")
    for other, said in unreached(report, scope, host, alive=alive).items():
        found.append(f"the server on {other} ({addresses[other]}): {said}")
    return tuple(found)


def unreached(
    report: GuestReport, scope: SmokeScope, host: str, *, alive: Collection[str] | None = None
) -> dict[str, str]:
    """Other host → what the server on `host` says of that one's server, for those that it does not reach; `alive` as
    for `lacking`: that a host fell out of the operation is told of that host."""
    addresses = server_addresses(scope.hosts)
    said = {other: report.peers.get(addresses[other], "not tried yet") for other in _living(scope, host, alive)}
    return {other: words for other, words in said.items() if words != REACHED}


def reaches_enough(report: GuestReport, scope: SmokeScope, host: str, *, alive: Collection[str] | None = None) -> bool:
    """The server reaches half of the others at least: where it does not reach the rest, the fault is rather theirs.

    A host with a fault in its network reaches nobody, and falls by itself.
    """
    living = _living(scope, host, alive)
    return 2 * len(unreached(report, scope, host, alive=alive)) <= len(living)


def without_server(report: GuestReport, scope: SmokeScope, host: str, *, alive: Collection[str]) -> tuple[str, ...]:
    """The other hosts that it was to reach, and did not, because none of the test's servers runs there any more."""
    if not scope.covers(host, Check.PEERS):
        return ()
    addresses = server_addresses(scope.hosts)
    gone = (each for each in peers_of(scope, host) if each not in alive)
    return tuple(each for each in gone if report.peers.get(addresses[each]) != REACHED)


def _living(scope: SmokeScope, host: str, alive: Collection[str] | None) -> tuple[str, ...]:
    if not scope.covers(host, Check.PEERS):
        return ()
    return tuple(each for each in peers_of(scope, host) if alive is None or each in alive)


def peers_of(scope: SmokeScope, host: str) -> tuple[str, ...]:
    """The other hosts whose servers it is to reach: the next ones around the ring of those with a server that talks.

    Everybody with everybody would be a load that grows with the square of the hosts.
    """
    ring = [each for each in sorted(scope.hosts) if each == host or scope.covers(each, Check.PEERS)]
    at = ring.index(host)
    return tuple(sorted([*ring[at + 1 :], *ring[:at]][:_NEIGHBOURS]))
