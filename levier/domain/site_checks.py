"""What must hold between the entries of a site document: names, references, and what may be used only once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated

from pydantic import Field, Strict

from levier.domain.hints import RootDeviceHints
from levier.domain.problems import Finding, closest
from levier.domain.site_address_checks import address_findings
from levier.domain.site_document import Entry, Located, root_of
from levier.domain.site_types import EndpointHost, HostLabel, ImageName, Interface, Mac, Serial

_NAMES: dict[str, object] = {
    "roles": str,
    "zones": HostLabel,
    "racks": HostLabel,
    "networks": HostLabel,
    "images": ImageName,
    "nodes": HostLabel,
}
_PORT = Annotated[int, Strict(), Field(ge=1, le=65535)]
_DEFAULT_PORT = 623


def cross_check(document: object) -> tuple[Finding, ...]:
    """Every contradiction between entries of a plain site document, valid or not; empty when there is none.

    Values that are wrong by themselves are passed over: reporting them is the model's part. Pure.
    """
    root = root_of(document)
    return (
        *_name_findings(root),
        *_reference_findings(root),
        *_identity_findings(root),
        *_hint_findings(root),
        *_boot_findings(root),
        *address_findings(root),
    )


def _name_findings(root: Entry) -> Iterator[Finding]:
    for section, kind in _NAMES.items():
        yield from _twice(_values(root.entries(section), "name", kind), "the name")
    for node in root.entries("nodes"):
        yield from _twice(_values(node.entries("nics"), "name", Interface), "the name")


def _identity_findings(root: Entry) -> Iterator[Finding]:
    nodes = list(root.entries("nodes"))
    serials = _values(nodes, "serial", Serial)
    yield from _twice([(node, Located(at.path, at.value.lower())) for node, at in serials], "the serial number")
    macs = [(node, at) for node in nodes for _, at in _values(node.entries("nics"), "mac", Mac)]
    yield from _twice(macs, "the MAC address")
    yield from _twice(_endpoints(nodes), "the BMC endpoint")


def _endpoints(nodes: Iterable[Entry]) -> Iterator[tuple[Entry, Located[str]]]:
    for node in nodes:
        bmc = node.inner("bmc")
        address = bmc.read("address", EndpointHost) if bmc else None
        if not bmc or not address:
            continue
        port = Located((), _DEFAULT_PORT) if bmc.lacks("port") else bmc.read("port", _PORT)
        if port:
            yield node, Located(address.path, f"{address.value} port {port.value}")


def _values(entries: Iterable[Entry], key: str, kind: object) -> list[tuple[Entry, Located[str]]]:
    found = ((entry, entry.read(key, kind)) for entry in entries)
    return [(entry, at) for entry, at in found if at]


def _twice(values: Iterable[tuple[Entry, Located[str]]], what: str) -> Iterator[Finding]:
    first: dict[str, tuple[Entry, Located[str]]] = {}
    for entry, at in values:
        earlier, where = first.setdefault(at.value, (entry, at))
        if where is not at:
            message = f"{what} {at.value} is already that of {earlier}"
            yield Finding(at.path, message, "expected each only once", related=where.path)


def _reference_findings(root: Entry) -> Iterator[Finding]:
    names = {section: _names(root, section) for section in _NAMES}
    openstack = root.inner("openstack")
    if openstack is not None:
        yield from _unknown(openstack, "internal_network", HostLabel, "networks", names["networks"])
    for rack in root.entries("racks"):
        yield from _unknown(rack, "zone", HostLabel, "zones", names["zones"])
    for node in root.entries("nodes"):
        yield from _unknown(node, "rack", HostLabel, "racks", names["racks"])
        yield from _unknown(node, "image", ImageName, "images", names["images"])
        for nic in node.entries("nics"):
            yield from _unknown(nic, "network", HostLabel, "networks", names["networks"])


def _names(root: Entry, section: str) -> list[str]:
    return [at.value for _, at in _values(root.entries(section), "name", _NAMES[section])]


def _unknown(entry: Entry, key: str, kind: object, section: str, known: list[str]) -> Iterator[Finding]:
    at = entry.read(key, kind)
    if at is None or at.value in known:
        return
    match = closest(at.value, known)
    listed = (
        f"expected one of {', '.join(sorted(known)[:8])}" if known else f"expected it to be declared under {section}:"
    )
    expected = f"did you mean {match!r}?" if match else listed
    yield Finding(at.path, f"there is no {key} named {at.value!r} under {section}", expected)


def _hint_findings(root: Entry) -> Iterator[Finding]:
    for node in root.entries("nodes"):
        hints = node.inner("root_device")
        if hints is None:
            continue
        if all(value is None for value in hints.content.values()):
            known = ", ".join(RootDeviceHints.model_fields)
            yield Finding(
                hints.path, "there are no hints", f"expected at least one of {known}, or no root_device at all"
            )
        low, high = hints.read("min_size_gib", int), hints.read("max_size_gib", int)
        if low and high and low.value > high.value:
            message = f"min_size_gib {low.value} is larger than max_size_gib {high.value}"
            yield Finding(low.path, message, f"expected at most {high.value}", related=high.path)


def _boot_findings(root: Entry) -> Iterator[Finding]:
    purposes = {
        at.value: network.content.get("purpose") for network, at in _values(root.entries("networks"), "name", HostLabel)
    }
    boots = sorted(name for name, purpose in purposes.items() if purpose == "provisioning")
    for node in root.entries("nodes"):
        nics = list(node.entries("nics"))
        used = [at.value for _, at in _values(nics, "network", HostLabel)]
        complete = (
            nics and all(each in purposes for each in used) and len(used) == sum(not n.lacks("network") for n in nics)
        )
        count = sum(name in boots for name in used)
        if complete and count != 1:
            expected = (
                f"expected exactly one NIC on a network for provisioning ({', '.join(boots) or 'there is none yet'})"
            )
            yield Finding((*node.path, "nics"), f"{count} NICs are on a network for provisioning", expected)
