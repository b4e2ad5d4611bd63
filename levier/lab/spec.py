"""What a lab is asked to be: a pure description from which everything else follows."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network
from typing import Any

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
MIXED = "mixed"
"""Says of a rack that its machines have several chassis."""
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
    chassis: ChassisKind
    memory_mib: int
    cpus: int
    disk_gib: int


@dataclass(frozen=True, slots=True)
class Difference:
    """What one machine has that the others of its rack have not; None: as they have it."""

    chassis: ChassisKind | None = None
    memory_mib: int | None = None
    cpus: int | None = None
    disk_gib: int | None = None

    @property
    def given(self) -> dict[str, Any]:
        """What was said of the machine."""
        return {name: value for name, value in asdict(self).items() if value is not None}


SENSIBLE = {"memory_mib": range(128, 1 << 22), "cpus": range(1, 256), "disk_gib": range(1, 1 << 14)}
"""What a machine can have. A disk is sparse; QEMU's q35 takes 255 processors without further ado."""


@dataclass(frozen=True, slots=True)
class RackSpec:
    """A whole virtual rack. `image` is the name the site file asks for."""

    name: str
    firmware: Firmware
    image: str
    nodes: tuple[NodeSpec, ...]
    ssh_port: int = _SSH_PORT
    """Where the SSH servers of the machines listen."""
    boot_port: int = BOOT_PORT
    """Where a `stub` machine's firmware, which knows no DHCP, finds the boot service on the server's address."""
    mirror: MirrorSpec | None = None
    """The package mirror of the lab; None: there is none."""

    @property
    def kinds(self) -> tuple[ChassisKind, ...]:
        """The chassis that machines of this rack have, each once."""
        return tuple(kind for kind in ChassisKind if any(node.chassis is kind for node in self.nodes))

    @property
    def mixture(self) -> str:
        """The chassis of the rack in a word, `mixed` when there are several."""
        return self.kinds[0].value if len(self.kinds) == 1 else MIXED

    @property
    def stub(self) -> bool:
        """Whether this is a rack of `stub` machines, which stand beside no others."""
        return self.kinds == (ChassisKind.STUB,)

    def of_kind(self, kind: ChassisKind) -> tuple[NodeSpec, ...]:
        """The machines with that chassis."""
        return tuple(node for node in self.nodes if node.chassis is kind)

    @property
    def namespace(self) -> str:
        """The network namespace everything runs in; empty where nothing of that kind is made."""
        return "" if self.stub else f"levier-{self.name}"

    @property
    def bridge(self) -> str:
        """The bridge that all machines are on; empty where there is none."""
        return "" if self.stub else BRIDGE

    @property
    def server(self) -> IPv4Address:
        """The address that Levier serves the machines from."""
        return STUB_SERVER if self.stub else SERVER

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
        if self.stub:
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
        # Labs that an earlier version brought up say this of the rack: they can still be taken down.
        shared = {key: raw.pop(key) for key in ("chassis", "memory_mib", "disk_gib") if key in raw}
        nodes = tuple(_node_from({"cpus": 1, **shared, **node}) for node in raw.pop("nodes"))
        return cls(
            **{**raw, "firmware": Firmware(raw["firmware"])},
            nodes=nodes,
            mirror=MirrorSpec(**mirror) if mirror else None,
        )


def _node_from(raw: Mapping[str, Any]) -> NodeSpec:
    return NodeSpec(**{**raw, "firmware": Firmware(raw["firmware"]), "chassis": ChassisKind(raw["chassis"])})


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
    cpus: int = 1,
    disk_gib: int = 8,
    image: str = "",
    ports: Ports | None = None,
    mirror: MirrorSpec | None = None,
    machines: Mapping[str, Difference] | None = None,
) -> RackSpec:
    """The rack with `nodes` machines; the same arguments give the same MACs, serials and addresses.

    `chassis`, `memory_mib`, `cpus` and `disk_gib` are those of every machine that `machines` says nothing else of.
    Raises InvalidRequest for a name, a size, or a mixture that cannot be.
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
    memory_mib = memory_mib or (768 if firmware is Firmware.UEFI else 512)
    made = tuple(
        NodeSpec(
            **_identity(name, index=index, count=nodes),
            bmc_port=ports.bmc,
            firmware=firmware,
            chassis=chassis,
            memory_mib=memory_mib,
            cpus=cpus,
            disk_gib=disk_gib,
        )
        for index in range(nodes)
    )
    return RackSpec(
        name=name,
        firmware=firmware,
        image=image or ("levier-stub" if chassis is ChassisKind.STUB else "debian-12"),
        nodes=_differing(made, machines or {}),
        ssh_port=ports.ssh,
        boot_port=ports.boot,
        mirror=mirror,
    )


def _differing(nodes: tuple[NodeSpec, ...], differences: Mapping[str, Difference]) -> tuple[NodeSpec, ...]:
    """The machines with what was said of single ones. Raises InvalidRequest for what cannot be."""
    if unknown := sorted(differences.keys() - {node.name for node in nodes}):
        raise InvalidRequest(
            f"there is no machine {', '.join(unknown)} in this rack",
            hint=f"it has: {', '.join(node.name for node in nodes[:20])}",
        )
    made = tuple(replace(node, **differences[node.name].given) if node.name in differences else node for node in nodes)
    stubs = [node.name for node in made if node.chassis is ChassisKind.STUB]
    if stubs and len(stubs) != len(made):
        raise InvalidRequest(
            f"the chassis stub stands beside no other: {', '.join(stubs[:5])} would have no bridge to the others",
            hint="mix qemu and nspawn",
        )
    for node in made:
        _require_sensible(node)
        said = differences.get(node.name, Difference())
        if node.chassis is not ChassisKind.QEMU and (said.memory_mib or said.cpus):
            raise InvalidRequest(
                f"{node.name} has the memory and the processors of this computer: its chassis is {node.chassis}",
                hint="say that of machines of the chassis qemu",
            )
    return made


def _require_sensible(node: NodeSpec) -> None:
    for name, sensible in SENSIBLE.items():
        if (value := getattr(node, name)) not in sensible:
            raise InvalidRequest(
                f"{node.name} cannot have {name.replace('_', '-')} {value}",
                hint=f"choose {sensible.start} to {sensible.stop - 1}",
            )


def _identity(lab: str, *, index: int, count: int) -> dict[str, Any]:
    """What tells one machine from the others, by its position in the rack."""
    zone, rack_number, position = _place(index, count=count)
    rack = f"{zone}{rack_number}"
    name = f"{rack}-{position:02d}"
    digest = hashlib.sha256(f"{lab}/{name}".encode()).hexdigest()
    # 52:54 has the locally-administered bit; four digest bytes make a clash inside one lab improbable (1e-4 for 1,000).
    octets = ["52", "54", *(digest[i : i + 2] for i in range(0, 8, 2))]
    return {
        "name": name,
        "rack": rack,
        "zone": zone,
        "mac": ":".join(octets),
        "serial": f"LV-{lab}-{index + 1:04d}",
        "disk_serial": f"LVD{index + 1:04d}",
        "bmc_address": str(FIRST_BMC + index),
        "guid": digest[:32],
    }


def _place(index: int, *, count: int) -> tuple[str, int, int]:
    """Zone, rack number in the zone and position in the rack: two zones from three nodes on, full racks in order."""
    in_first_zone = (count + 1) // 2 if count >= 3 else count
    zone, offset = ("a", index) if index < in_first_zone else ("b", index - in_first_zone)
    return zone, offset // RACK_SIZE + 1, offset % RACK_SIZE + 1
