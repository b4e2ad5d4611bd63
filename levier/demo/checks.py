"""What the demonstration claims, each claim compared with the lab's own ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Check:
    """One claim and whether the ledger bears it out; `seen` is what the ledger says."""

    claim: str
    holds: bool
    seen: str


def powered_off(lab: dict[str, Any]) -> list[Check]:
    """Every node of the rack is off."""
    return [
        Check(f"{n['name']} is powered off", n["power"] == "off", f"power {n['power']}, {n['boots']} boots")
        for n in lab["nodes"]
    ]


def deployed(lab: dict[str, Any], events: Sequence[dict[str, Any]], nodes: Sequence[dict[str, Any]]) -> list[Check]:
    """Every node is on, was written exactly one image, runs from its disk, and is who Levier says it is."""
    known = {n["name"]: n for n in nodes}
    checks = []
    for machine in lab["nodes"]:
        name, node = machine["name"], known[machine["name"]]
        boots = [e["detail"].get("device") for e in events if e["node"] == name and e["kind"] == "boot"]
        switched_on = [
            e for e in events if e["node"] == name and e["kind"] == "power" and e["detail"].get("to") == "on"
        ]
        checks += [
            Check(f"{name} is ready in Levier and on in the lab", _ready(node, machine), f"power {machine['power']}"),
            Check(f"{name} was powered on once", len(switched_on) == 1, f"{len(switched_on)} power-ons"),
            Check(f"{name} booted from the network, then from its disk", boots == ["pxe", "disk"], " → ".join(boots)),
            Check(f"{name} was written one image", machine["image_writes"] == 1, f"{machine['image_writes']} writes"),
            Check(f"{name} has serial {node['serial']}", node["serial"] == machine["serial"], machine["serial"]),
        ]
    return checks


def taken_back(
    lab: dict[str, Any], entries: Sequence[dict[str, Any]], addresses: Sequence[dict[str, Any]]
) -> list[Check]:
    """Every node is off, and nothing of the operation is left in Levier."""
    return [
        *powered_off(lab),
        Check("no netboot entry is left", not entries, f"{len(entries)} entries"),
        Check("every address is free", not addresses, f"{len(addresses)} addresses"),
    ]


def _ready(node: dict[str, Any], machine: dict[str, Any]) -> bool:
    return bool(node["state"] == "ready" and machine["power"] == "on" and node["address"])
