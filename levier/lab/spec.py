"""What a lab is asked to be: a pure description from which everything else follows."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network

from levier.domain.bmc import Firmware
from levier.domain.errors import InvalidRequest

FIRST_BMC = IPv4Address("127.0.77.11")
SERVER = IPv4Address("10.77.0.1")
BRIDGE = "br-prov"
SMALL_RACK = 90
"""Nodes that fit the host range of the /24; larger labs get a /16."""
MIRROR_PORT = 3142
"""Where the lab's package mirror listens, on the server's address."""
BOOT_PORT = 8480
"""Where Levier's boot service listens unless it is told otherwise."""
STUB_SERVER = IPv4Address("127.78.0.1")
STUB_NETWORK = IPv4Network("127.78.0.0/16")
STUB_BMC_PORT = 6230
STUB_SSH_PORT = 2222
_IPMI_PORT = 623
_SSH_PORT = 22
RACK_SIZE = 42
_NAME = re.compile(r"[a-z][a-z0-9-]{0,15}")


class ChassisKind(StrEnum):
    """What stands behind a node's BMC."""

    QEMU = "qemu"
    NSPAWN = "nspawn"
    STUB = "stub"


@dataclass(frozen=True, slots=True)
class MirrorSpec:
    """What the lab's package mirror offers its machines."""

    security: bool
    """Whether there is an archive of security updates."""
    check_valid_until: bool
    """Whether lists that have expired are refused, as this computer's own apt does."""


LARGEST = {ChassisKind.QEMU: 1000, ChassisKind.NSPAWN: 1000, ChassisKind.STUB: 4000}
"""A Linux bridge holds 1,023 ports; the host range of a stub rack 4,096 addresses."""


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One virtual machine of the rack."""

    name: str
    rack: str
    zone: str
    mac: str
    serial: str
    disk_serial: str
    bmc_address: str
    bmc_port: int
    firmware: Firmware
    guid: str
    """The system's UUID, 32 hexadecimal digits: the BMC and SMBIOS both report it."""


@dataclass(frozen=True, slots=True)
class RackSpec:
    """A whole virtual rack. `image` is the name the site file asks for."""

    name: str
    chassis: ChassisKind
    firmware: Firmware
    memory_mib: int
    disk_gib: int
    image: str
    nodes: tuple[NodeSpec, ...]
    ssh_port: int = _SSH_PORT
    """Where the SSH servers of the machines listen."""
    boot_port: int = BOOT_PORT
    """Where a `stub` machine's firmware, which knows no DHCP, finds the boot service on the server's address."""
    mirror: MirrorSpec | None = None
    """The package mirror of the lab; None: there is none."""

    @property
    def namespace(self) -> str:
        """The network namespace everything runs in; empty where nothing of that kind is made."""
        return "" if self.chassis is ChassisKind.STUB else f"levier-{self.name}"

    @property
    def bridge(self) -> str:
        """The bridge that all machines are on; empty where there is none."""
        return "" if self.chassis is ChassisKind.STUB else BRIDGE

    @property
    def server(self) -> IPv4Address:
        """The address that Levier serves the machines from."""
        return STUB_SERVER if self.chassis is ChassisKind.STUB else SERVER

    @property
    def boot_script(self) -> str:
        """Where a machine that knows no DHCP fetches its boot script."""
        return f"http://{self.server}:{self.boot_port}/boot.ipxe"

    @property
    def mirror_url(self) -> str | None:
        """Where machines find the package mirror; None when there is none."""
        return f"http://{self.server}:{MIRROR_PORT}" if self.mirror else None

    @property
    def network(self) -> IPv4Network:
        """The provisioning network."""
        if self.chassis is ChassisKind.STUB:
            return STUB_NETWORK
        return IPv4Network("10.77.0.0/24" if len(self.nodes) <= SMALL_RACK else "10.77.0.0/16")

    def node(self, name: str) -> NodeSpec:
        """The node of that name; KeyError when there is none."""
        return {node.name: node for node in self.nodes}[name]

    def to_json(self) -> str:
        """The description as JSON, read back by `from_json`."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> RackSpec:
        """The description that `to_json` wrote."""
        raw = json.loads(text)
        mirror = raw.pop("mirror", None)
        nodes = tuple(NodeSpec(**{**node, "firmware": Firmware(node["firmware"])}) for node in raw.pop("nodes"))
        return cls(
            **{**raw, "chassis": ChassisKind(raw["chassis"]), "firmware": Firmware(raw["firmware"])},
            nodes=nodes,
            mirror=MirrorSpec(**mirror) if mirror else None,
        )


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the servers of a rack listen. Those of a `stub` rack are on this computer's own loopback interface."""

    bmc: int
    ssh: int
    boot: int = BOOT_PORT

    @classmethod
    def of(cls, chassis: ChassisKind) -> Ports:
        """The ports a chassis uses unless told otherwise: those below 1024 belong to root."""
        return cls(STUB_BMC_PORT, STUB_SSH_PORT) if chassis is ChassisKind.STUB else cls(_IPMI_PORT, _SSH_PORT)


def plan_rack(
    *,
    name: str,
    chassis: ChassisKind,
    nodes: int,
    firmware: Firmware = Firmware.BIOS,
    memory_mib: int | None = None,
    disk_gib: int = 8,
    image: str = "",
    ports: Ports | None = None,
    mirror: MirrorSpec | None = None,
) -> RackSpec:
    """The rack with `nodes` machines; the same arguments give the same MACs, serials and addresses.

    Raises InvalidRequest for a name or a size that cannot be.
    """
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"lab name {name!r} cannot be used",
            hint="use 1 to 16 lower-case letters, digits and hyphens, a letter first",
        )
    largest = LARGEST[chassis]
    if not 1 <= nodes <= largest:
        raise InvalidRequest(f"a lab has 1 to {largest} nodes, not {nodes}", hint="choose another --nodes")
    if mirror and chassis is ChassisKind.STUB:
        raise InvalidRequest(
            "machines of the chassis stub run on this computer's programs and install none",
            hint="leave --packages out, or choose another chassis",
        )
    ports = ports or Ports.of(chassis)
    default_memory_mib = 768 if firmware is Firmware.UEFI else 512
    return RackSpec(
        name=name,
        chassis=chassis,
        firmware=firmware,
        memory_mib=memory_mib or default_memory_mib,
        disk_gib=disk_gib,
        image=image or ("levier-stub" if chassis is ChassisKind.STUB else "debian-12"),
        nodes=tuple(
            _node(name, index=index, count=nodes, firmware=firmware, bmc_port=ports.bmc) for index in range(nodes)
        ),
        ssh_port=ports.ssh,
        boot_port=ports.boot,
        mirror=mirror,
    )


def _node(lab: str, *, index: int, count: int, firmware: Firmware, bmc_port: int) -> NodeSpec:
    zone, rack_number, position = _place(index, count=count)
    rack = f"{zone}{rack_number}"
    name = f"{rack}-{position:02d}"
    digest = hashlib.sha256(f"{lab}/{name}".encode()).hexdigest()
    # 52:54 has the locally-administered bit; four digest bytes make a clash inside one lab improbable (1e-4 for 1,000).
    octets = ["52", "54", *(digest[i : i + 2] for i in range(0, 8, 2))]
    return NodeSpec(
        name=name,
        rack=rack,
        zone=zone,
        mac=":".join(octets),
        serial=f"LV-{lab}-{index + 1:04d}",
        disk_serial=f"LVD{index + 1:04d}",
        bmc_address=str(FIRST_BMC + index),
        bmc_port=bmc_port,
        firmware=firmware,
        guid=digest[:32],
    )


def _place(index: int, *, count: int) -> tuple[str, int, int]:
    """Zone, rack number in the zone and position in the rack: two zones from three nodes on, full racks in order."""
    in_first_zone = (count + 1) // 2 if count >= 3 else count
    zone, offset = ("a", index) if index < in_first_zone else ("b", index - in_first_zone)
    return zone, offset // RACK_SIZE + 1, offset % RACK_SIZE + 1
