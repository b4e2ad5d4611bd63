"""The site file's content: everything an operator wants of one cloud, valid and consistent by construction."""

from __future__ import annotations

from enum import StrEnum
from ipaddress import IPv4Address
from typing import Annotated, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, Strict, model_validator
from pydantic_core import PydanticCustomError

from levier.domain.bmc import BmcAddress, Firmware
from levier.domain.errors import NotFound
from levier.domain.hints import RootDeviceHints
from levier.domain.package_sources import PackageSources
from levier.domain.problems import Finding, closest, render_path
from levier.domain.site_checks import cross_check
from levier.domain.site_types import (
    Address,
    Cidr,
    CredentialName,
    DnsName,
    EndpointHost,
    HostLabel,
    ImageName,
    Interface,
    LabelKey,
    LabelValue,
    Line,
    Mac,
    PublicKey,
    ReleaseName,
    Serial,
    Sha256,
    SysctlKey,
    SysctlValue,
    TimeZone,
    refuse,
)

INCONSISTENT = "site_inconsistent"
"""Type of the one pydantic error that stands for all findings of `cross_check`."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


ComponentSettings = dict[HostLabel, dict[str, JsonValue]]
"""Component → setting → value. What there is to set the components say (`levier.domain.component_settings`)."""


class _Named(_Frozen):
    name: str


_Entry = TypeVar("_Entry", bound=_Named)


def _by_name(entries: tuple[_Entry, ...]) -> tuple[_Entry, ...]:
    return tuple(sorted(entries, key=lambda entry: entry.name))


class Role(StrEnum):
    """Set of components a host runs."""

    CONTROLLER = "controller"
    COMPUTE = "compute"
    NETWORK = "network"
    STORAGE = "storage"


class RoleSpec(_Named):
    """What the hosts of one role run."""

    name: Role
    """The role."""
    components: tuple[HostLabel, ...] | None = None
    """Exactly these components; without it those that belong to the role of themselves (`levier component list`)."""
    also: tuple[HostLabel, ...] = ()
    """Components besides, such as `horizon` or `haproxy`."""
    without: tuple[HostLabel, ...] = ()
    """Components that are left out."""
    settings: ComponentSettings = Field(default_factory=dict)
    """Settings of components on the hosts of the role; they go before the zone's."""


class OpenStackSpec(_Frozen):
    """What holds for the cloud as a whole."""

    region: Line = "RegionOne"
    """Name of the region."""
    internal_network: HostLabel | None = None
    """The network on which the services talk: a name under `networks`. Without it the network for management, or else
    the one for provisioning."""
    public_host: EndpointHost | None = None
    """Address or name of the public endpoints; without it that of the first host with haproxy or else with keystone."""


class SiteSettings(_Frozen):
    """What holds for the whole site."""

    name: HostLabel
    """Name of the site; identifies it for good."""
    domain: DnsName | None = None
    """DNS domain of the hosts; without it a host's full name is its node's name."""
    timezone: TimeZone = "Etc/UTC"
    """Time zone of every host, by its IANA name."""
    ntp_servers: tuple[EndpointHost, ...] = ()
    """Time servers of every host, in order; without any, the distribution's own."""
    authorized_keys: tuple[PublicKey, ...] = ()
    """Public keys that may log in to every host as its operator, one line of a `.pub` file each."""
    sysctl: dict[SysctlKey, SysctlValue] = Field(default_factory=dict)
    """Kernel parameters of every host."""
    ssh_port: Annotated[int, Strict(), Field(ge=1, le=65535)] = 22
    """TCP port on which the hosts' SSH servers listen."""
    packages: PackageSources | None = None
    """Where hosts get packages of their distribution from; without it, from where their image says."""


class Zone(_Named):
    """A failure domain; becomes an OpenStack availability zone."""

    name: HostLabel
    """Name of the zone."""
    settings: ComponentSettings = Field(default_factory=dict)
    """Settings of components on the hosts of the zone; they go before the site's."""


class Rack(_Named):
    """A rack of nodes."""

    name: HostLabel
    """Name of the rack."""
    zone: HostLabel
    """The zone it stands in: a name under `zones`. Its nodes are in that zone."""


class NetworkPurpose(StrEnum):
    """What a network is for."""

    PROVISIONING = "provisioning"
    MANAGEMENT = "management"
    STORAGE = "storage"
    TENANT = "tenant"
    EXTERNAL = "external"


class Dhcp(StrEnum):
    """Whose DHCP and TFTP a network has."""

    LEVIER = "levier"
    EXTERNAL = "external"


class AddressRange(_Frozen):
    """Addresses from `start` to `end`, both included."""

    start: Address
    """The first address."""
    end: Address
    """The last address."""

    def __contains__(self, address: IPv4Address) -> bool:
        return self.start <= address <= self.end

    def __len__(self) -> int:
        return max(0, int(self.end) - int(self.start) + 1)


class Network(_Named):
    """One IPv4 network."""

    name: HostLabel
    """Name of the network."""
    purpose: NetworkPurpose
    """What it is for; nodes boot from a `provisioning` network."""
    cidr: Cidr
    """Its addresses, such as `10.77.0.0/24`; networks do not overlap."""
    gateway: Address | None = None
    """The router that hosts use as their default route; without it there is none."""
    dns: tuple[Address, ...] = ()
    """Name servers of the hosts, in order."""
    dhcp: Dhcp = Dhcp.LEVIER
    """Whose DHCP nodes are booted by. `external`: Levier serves neither DHCP nor TFTP here; the nodes learn the address
    of the boot script (`http://SERVER_ADDRESS:8480/boot.ipxe`) from another server or from their own firmware."""
    interface: Interface | None = None
    """Interface of the Levier server on this network; needed where nodes boot from it by Levier's own DHCP."""
    server_address: Address | None = None
    """Address of the Levier server on this network; needed where the purpose is `provisioning`."""
    dhcp_range: AddressRange | None = None
    """Addresses set aside for DHCP; never given to a host."""
    host_range: AddressRange | None = None
    """Addresses that NICs without a fixed `address` are given; large enough for all of them."""


class Image(_Named):
    """A disk image that nodes are installed from."""

    name: ImageName
    """Name of the image, as `levier image list` shows it."""
    os: ImageName | None = None
    """Its operating system, such as `debian-12`: decides which packages and which bundle its hosts get. By default the
    image is called after it."""
    sha256: Sha256 | None = None
    """Pins the image: another content under this name is refused. Digest of the compressed file."""


def _distinct(roles: tuple[Role, ...]) -> tuple[Role, ...]:
    twice = sorted({role.value for role in roles if roles.count(role) > 1})
    if twice:
        raise refuse(f"{', '.join(twice)} is given more than once", "expected each role once")
    return tuple(sorted(roles))


class BmcDriver(StrEnum):
    """How a BMC is spoken to."""

    IPMI = "ipmi"


class BmcSpec(_Frozen):
    """How to reach a node's BMC."""

    driver: BmcDriver
    """Protocol of the BMC."""
    address: EndpointHost
    """Address or host name the BMC listens on."""
    port: Annotated[int, Strict(), Field(ge=1, le=65535)] = 623
    """UDP port the BMC listens on."""
    credential: CredentialName
    """Name of the secret with `username` and `password`; stored by `levier secret set NAME`, never in this file."""
    min_interval_s: Annotated[float, Strict(), Field(ge=0, le=60)] | None = None
    """Seconds between two commands at least, for a BMC that loses commands sent too fast."""
    timeout_s: Annotated[float, Strict(), Field(gt=0, le=600)] | None = None
    """Seconds after which an unanswered command counts as lost."""

    @property
    def endpoint(self) -> BmcAddress:
        """Where this BMC listens."""
        return BmcAddress(self.address, self.port)


class NicSpec(_Named):
    """One network interface of a node."""

    name: Interface
    """Name of the interface on the host; it is found by its MAC address."""
    mac: Mac
    """MAC address; stored in lower case with colons."""
    network: HostLabel | None = None
    """The network it is attached to: a name under `networks`. Without it the NIC is left alone."""
    address: Address | None = None
    """Fixed address; without it one of the network's `host_range` is allocated."""


class Node(_Named):
    """A machine with a BMC."""

    name: HostLabel
    """Host name of the node, without the domain."""
    rack: HostLabel
    """The rack it stands in: a name under `racks`."""
    serial: Serial | None = None
    """Serial number (SMBIOS, FRU); where given, a machine that reports another one is refused."""
    firmware: Firmware
    """How the machine boots."""
    image: ImageName
    """The image it is installed from: a name under `images`."""
    roles: Annotated[tuple[Role, ...], AfterValidator(_distinct)] = ()
    """What the host runs; the order means nothing."""
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict)
    """Free words to select nodes by."""
    bmc: BmcSpec
    """How to reach the BMC."""
    nics: Annotated[tuple[NicSpec, ...], Field(min_length=1), AfterValidator(_by_name)]
    """Network interfaces; exactly one is on a network for provisioning, and boots."""
    root_device: RootDeviceHints | None = None
    """Which disk the image is written to; not needed by a machine with a single disk."""
    settings: ComponentSettings = Field(default_factory=dict)
    """Settings of components on this host; they go before all others."""


class Site(_Frozen):
    """One cloud that one Levier looks after.

    Entries are ordered by name whatever their order in the file, so that order is no difference. Every instance is
    consistent: building one runs `cross_check`.
    """

    site: SiteSettings
    """What holds for the whole site."""
    release: ReleaseName | None = None
    """The OpenStack release, such as `2026.2` (its newest patch level) or `2026.2.1`."""
    openstack: OpenStackSpec = Field(default_factory=OpenStackSpec)
    """What holds for the cloud as a whole."""
    roles: Annotated[tuple[RoleSpec, ...], AfterValidator(_by_name)] = ()
    """What the hosts of a role run, where it differs from what components say of themselves."""
    settings: ComponentSettings = Field(default_factory=dict)
    """Settings of components on all hosts: component → setting → value, and component → `config` → file → section →
    option → value for what no setting covers."""
    zones: Annotated[tuple[Zone, ...], AfterValidator(_by_name)] = ()
    """Failure domains."""
    racks: Annotated[tuple[Rack, ...], AfterValidator(_by_name)] = ()
    """Racks, each in one zone."""
    networks: Annotated[tuple[Network, ...], AfterValidator(_by_name)] = ()
    """IPv4 networks."""
    images: Annotated[tuple[Image, ...], AfterValidator(_by_name)] = ()
    """Disk images that nodes are installed from."""
    nodes: Annotated[tuple[Node, ...], AfterValidator(_by_name)] = ()
    """Machines with a BMC."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        findings = cross_check(self.model_dump(mode="json", exclude_none=True))
        if findings:
            text = "\n".join(_sentence(each) for each in findings)
            raise PydanticCustomError(INCONSISTENT, "{text}", {"text": text})
        return self

    def node(self, name: str) -> Node:
        """The node of that name. Raises NotFound, with the closest name."""
        return _find(self.nodes, name, "node")

    def rack(self, name: str) -> Rack:
        """The rack of that name. Raises NotFound, with the closest name."""
        return _find(self.racks, name, "rack")

    def network(self, name: str) -> Network:
        """The network of that name. Raises NotFound, with the closest name."""
        return _find(self.networks, name, "network")

    def image(self, name: str) -> Image:
        """The image of that name. Raises NotFound, with the closest name."""
        return _find(self.images, name, "image")

    def os_of(self, node: Node) -> str:
        """The operating system of the node's image, such as `debian-12`."""
        return self.image(node.image).os or node.image

    def role(self, role: Role) -> RoleSpec:
        """What the file says of a role; nothing where it is silent."""
        return next((each for each in self.roles if each.name is role), RoleSpec(name=role))

    def zone_of(self, node: Node) -> str:
        """Name of the zone the node's rack stands in."""
        return self.rack(node.rack).zone

    def fqdn(self, node: Node) -> str:
        """The node's full host name: with the site's domain where there is one."""
        return f"{node.name}.{self.site.domain}" if self.site.domain else node.name

    def boot_nic(self, node: Node) -> NicSpec:
        """The node's one NIC on a network for provisioning."""
        purposes = {network.name: network.purpose for network in self.networks}
        return next(nic for nic in node.nics if purposes.get(nic.network or "") is NetworkPurpose.PROVISIONING)

    def boots_by_own_dhcp(self, network: Network) -> bool:
        """Whether Levier serves DHCP and TFTP on this network."""
        return network.purpose is NetworkPurpose.PROVISIONING and network.dhcp is Dhcp.LEVIER

    def fixed_addresses(self, network: str) -> frozenset[IPv4Address]:
        """Addresses that an allocator on this network must leave alone: of NICs, gateway, server and name servers."""
        own = self.network(network)
        fixed = {nic.address for node in self.nodes for nic in node.nics if nic.network == network}
        return frozenset(each for each in {*fixed, own.gateway, own.server_address, *own.dns} if each is not None)


def _find(entries: tuple[_Entry, ...], name: str, kind: str) -> _Entry:
    found = next((entry for entry in entries if entry.name == name), None)
    if found is None:
        match = closest(name, (entry.name for entry in entries))
        hint = f"did you mean {match!r}?" if match else f"add it under {kind}s: in the site file, then apply it"
        raise NotFound(f"there is no {kind} named {name!r} in this site", hint=hint)
    return found


def _sentence(finding: Finding) -> str:
    return f"{render_path(finding.path)}: {finding.message}; {finding.expected}"
