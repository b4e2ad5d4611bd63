"""The truth about a lab, from its daemon where it lives, else from control groups, state file and ledger."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from levier.domain.errors import DriverError, NotFound
from levier.lab.cgroups import MIRROR_GROUP, CgroupTree
from levier.lab.control import ask
from levier.lab.layout import Layout
from levier.lab.ledger import EventKind, read_events
from levier.lab.network import namespace_exists, neighbours
from levier.lab.spec import NodeSpec, RackSpec


@dataclass(slots=True)
class _Counts:
    boots: int = 0
    image_writes: int = 0
    disk_bytes_written: int = 0
    last_power: str = "off"


@dataclass(slots=True)
class _Sources:
    """Everything a node's status is made of."""

    spec: RackSpec
    alive: bool
    live: dict[str, dict[str, Any]] = field(default_factory=dict)
    counts: defaultdict[str, _Counts] = field(default_factory=lambda: defaultdict(_Counts))
    addresses: dict[str, str] = field(default_factory=dict)
    cgroups: CgroupTree | None = None
    """Asked only when there is no daemon to ask."""


def lab_status(layout: Layout) -> dict[str, Any]:
    """The lab's status as `lab status --json` prints it. Raises NotFound when there is no lab in the directory."""
    if not layout.spec.exists():
        raise NotFound(f"there is no lab in {layout.root}", hint="start one with `levier lab up`")
    spec = RackSpec.from_json(layout.spec.read_text(encoding="utf-8"))
    daemon = _ask_daemon(layout)
    last = daemon or _last_known(layout)
    sources = _Sources(
        spec=spec,
        alive=daemon is not None,
        live={node["name"]: node for node in last.get("nodes", [])},
        counts=_count(layout),
        addresses=neighbours(spec.namespace) if spec.namespace else {},
        cgroups=None if daemon or not spec.namespace else CgroupTree(spec.name),
    )
    return {
        "name": spec.name,
        "daemon": "running" if daemon else "dead",
        "daemon_pid": last.get("pid"),
        "netns": spec.namespace or None,
        "netns_exists": bool(spec.namespace) and namespace_exists(spec.namespace),
        "dir": str(layout.root),
        "chassis": spec.mixture,
        "firmware": spec.firmware.value,
        "bridge": spec.bridge or None,
        "server_address": str(spec.server),
        "mirror": spec.mirror_url,
        "mirror_state": _mirror_state(spec),
        "ssh_port": spec.ssh_port,
        "boot_port": spec.boot_port,
        "site_file": str(layout.site),
        "credentials_file": str(layout.credentials),
        "image": spec.image,
        "image_file": str(layout.image) if layout.image.exists() else None,
        "ramdisk_file": str(layout.ramdisk) if layout.ramdisk.exists() else None,
        "nodes": [_node(node, sources) for node in spec.nodes],
    }


def _mirror_state(spec: RackSpec) -> str | None:
    if spec.mirror is None:
        return None
    return "running" if CgroupTree(spec.name).pids(MIRROR_GROUP) else "dead"


def _ask_daemon(layout: Layout) -> dict[str, Any] | None:
    try:
        return ask(layout.control, {"op": "status"})
    except DriverError:
        return None


def _last_known(layout: Layout) -> dict[str, Any]:
    if not layout.state.exists():
        return {}
    state: dict[str, Any] = json.loads(layout.state.read_text(encoding="utf-8"))
    return state


def _count(layout: Layout) -> defaultdict[str, _Counts]:
    counts: defaultdict[str, _Counts] = defaultdict(_Counts)
    for event in read_events(layout.ledger, kind=(EventKind.BOOT, EventKind.DISK_WRITE, EventKind.POWER)):
        node = counts[event.node]
        if event.kind == EventKind.BOOT:
            node.boots += 1
        elif event.kind == EventKind.DISK_WRITE:
            node.disk_bytes_written += event.detail["bytes"]
            node.image_writes += bool(event.detail["image"])
        elif event.kind == EventKind.POWER:
            node.last_power = event.detail["to"]
    return counts


def _node(node: NodeSpec, sources: _Sources) -> dict[str, Any]:
    live, counts = sources.live.get(node.name, {}), sources.counts[node.name]
    pids = sources.cgroups.pids(f"node/{node.name}") if sources.cgroups else []
    # Without the daemon its processes tell: they run on when it is killed.
    power = live["power"] if sources.alive else ("on" if pids else "off")
    return {
        "name": node.name,
        "rack": node.rack,
        "zone": node.zone,
        "chassis": node.chassis.value,
        "memory_mib": node.memory_mib,
        "cpus": node.cpus,
        "disk_gib": node.disk_gib,
        "power": power,
        "boot_device": live.get("boot_device", "none"),
        "boot_persistent": live.get("boot_persistent", False),
        "booted_from": live.get("booted_from") if power == "on" else None,
        "firmware": node.firmware.value,
        "identify": live.get("identify", False),
        "mac": node.mac,
        "serial": node.serial,
        "disk_serial": node.disk_serial,
        "bmc_address": node.bmc_address,
        "bmc_port": node.bmc_port,
        "boots": counts.boots,
        "image_writes": counts.image_writes,
        "disk_bytes_written": counts.disk_bytes_written + live.get("boot_bytes_written", 0),
        "address": live.get("address") if sources.alive and live.get("address") else sources.addresses.get(node.mac),
        "pid": live.get("pid") if sources.alive else next(iter(pids), None),
    }
