"""Is this the machine that the site file means? Asked before anything on it is destroyed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from levier.domain.bmc import FruInventory
from levier.domain.errors import Rejected
from levier.domain.hints import choose_root_disk
from levier.domain.inventory import Inventory
from levier.domain.site import Node
from levier.domain.site_types import PLACEHOLDER_SERIALS


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One way in which the machine differs from the site file."""

    field: str
    """Path inside the node's entry, such as `serial` or `nics[eth0].mac`."""
    expected: str
    found: str
    message: str


def match_node(spec: Node, seen: Inventory | FruInventory, *, required_bytes: int = 0) -> tuple[Mismatch, ...]:
    """Every difference between `spec` and the machine; empty when it is the one that is meant. Pure.

    What the BMC's FRU lacks is no difference: many have none, and the in-band inventory follows. In-band, a missing
    serial number is one where the site file has one. `required_bytes`: what the root disk must hold at least.
    """
    if isinstance(seen, FruInventory):
        known = seen.serial.strip().lower() not in PLACEHOLDER_SERIALS
        return tuple(_serial(spec, seen.serial, where="its BMC")) if known else ()
    return (
        *_serial(spec, seen.serial, where="the machine"),
        *_firmware(spec, seen),
        *_macs(spec, seen),
        *_root_device(spec, seen, required_bytes),
    )


def describe_mismatches(name: str, mismatches: Iterable[Mismatch]) -> str:
    """The text of the error that refuses node `name`: one line a mismatch."""
    lines = [f"  {each.message}" for each in mismatches]
    return "\n".join([f"node {name} is not the machine that the site file describes:", *lines])


def _serial(spec: Node, found: str, *, where: str) -> Iterator[Mismatch]:
    if spec.serial is None or spec.serial.lower() == found.strip().lower():
        return
    known = found.strip().lower() not in PLACEHOLDER_SERIALS
    says = f"{where} reports the serial number {found.strip()}" if known else f"{where} reports no serial number"
    yield Mismatch("serial", spec.serial, found.strip(), f"{says}, the site file says {spec.serial}")


def _firmware(spec: Node, seen: Inventory) -> Iterator[Mismatch]:
    if seen.firmware and seen.firmware != spec.firmware:
        message = f"the machine was booted by {seen.firmware}, the site file says {spec.firmware}"
        yield Mismatch("firmware", spec.firmware, seen.firmware, message)


def _macs(spec: Node, seen: Inventory) -> Iterator[Mismatch]:
    present = {nic.mac.lower().replace("-", ":") for nic in seen.nics}
    listed = ", ".join(f"{nic.name} {nic.mac}" for nic in seen.nics) or "none"
    for nic in spec.nics:
        if nic.mac not in present:
            message = f"no NIC has the MAC address {nic.mac} of {nic.name}; the machine's NICs are: {listed}"
            yield Mismatch(f"nics[{nic.name}].mac", nic.mac, listed, message)


def _root_device(spec: Node, seen: Inventory, required_bytes: int) -> Iterator[Mismatch]:
    try:
        choose_root_disk(seen.disks, spec.root_device, required_bytes)
    except Rejected as error:
        given = spec.root_device.given() if spec.root_device else {}
        expected = ", ".join(f"{name}={value}" for name, value in given.items()) or "a single disk"
        found = ", ".join(sorted(disk.name for disk in seen.disks)) or "no disk"
        yield Mismatch("root_device", expected, found, error.message)
