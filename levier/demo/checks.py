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


def in_service(lab: dict[str, Any], nodes: Sequence[dict[str, Any]]) -> list[Check]:
    """Every node is on, was written one image, and carries a part of the cloud."""
    known = {n["name"]: n for n in nodes}
    return [
        Check(
            f"{machine['name']} is in service in Levier, on in the lab, written once",
            known[machine["name"]]["state"] == "in_service"
            and machine["power"] == "on"
            and machine["image_writes"] == 1,
            f"power {machine['power']}, booted from {machine['booted_from']}, {machine['image_writes']} writes",
        )
        for machine in lab["nodes"]
    ]


def servers_answered(operation: dict[str, Any]) -> list[Check]:
    """On every compute host a server ran, answered another host's, and is gone."""
    seen = {s["target"]: s["result"] or {} for s in operation["steps"] if s["step"] == "smoke-check"}
    checks = []
    for host, result in seen.items():
        peers = result.get("peers", {})
        answered = bool(peers) and all(words == "ping=ok http=ok" for words in peers.values())
        answered = answered and not result.get("unreached")
        checks.append(
            Check(
                f"the server on {host} got its address and reached the one on another host",
                answered,
                f"{result.get('address', 'no address')}; " + ", ".join(f"{peer} {w}" for peer, w in peers.items()),
            )
        )
        checks.append(
            Check(f"the screen of the server on {host} was shown", bool(result.get("screen")), _said(result, "screen"))
        )
    volumes = {host: result["volume"] for host, result in seen.items() if result.get("volume")}
    checks.append(
        Check(
            "a volume was attached, written and read", bool(volumes), "; ".join(f"{h}: {v}" for h, v in volumes.items())
        )
    )
    (removed,) = [s["result"] or {} for s in operation["steps"] if s["step"] == "smoke-remove"]
    checks.append(
        Check(
            "nothing of the test is left in any service", removed.get("left") == [], f"{removed.get('removed')} removed"
        )
    )
    return checks


def _said(result: dict[str, Any], what: str) -> str:
    return str(result.get(what) or result.get("not_checked", {}).get(what, "-"))


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
