"""Nodes, addresses and boot entries as JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from levier.domain.node_record import NodeRecord
from levier.services.boot import BootEntries
from levier.store.addresses import AddressStore
from levier.store.nodes import NodeStore


class InventoryView:
    """What is there, for the API to show."""

    def __init__(
        self,
        nodes: NodeStore,
        addresses: AddressStore,
        boot_entries: BootEntries,
        *,
        host_key: Callable[[str], str | None],
    ) -> None:
        self._nodes = nodes
        self._addresses = addresses
        self._boot_entries = boot_entries
        self._host_key = host_key

    def nodes(self) -> list[dict[str, Any]]:
        """All nodes by name, without their inventory."""
        return [_node(record) for record in self._nodes.list()]

    def node(self, name: str) -> dict[str, Any]:
        """One node with inventory and facts, and the host key that its SSH server has to show. Raises NotFound."""
        record = self._nodes.get(name)
        known = {"inventory": dict(record.inventory), "facts": dict(record.facts)}
        return _node(record) | {"host_key": self._host_key(name)} | known

    def addresses(self) -> list[dict[str, Any]]:
        """All allocated addresses."""
        return [
            {"network": a.network, "address": a.address, "node": a.node, "operation": a.operation}
            for a in self._addresses.list()
        ]

    def boot_entries(self) -> list[dict[str, Any]]:
        """All standing boot entries, with what their agents do."""
        return [
            {
                "node": view.node,
                "mac": view.mac,
                "purpose": view.purpose.value,
                "operation": view.operation,
                "script_fetched_at": view.script_fetched_at.isoformat() if view.script_fetched_at else None,
                "claimed_at": view.claimed_at.isoformat() if view.claimed_at else None,
                "last_seen": view.last_seen.isoformat() if view.last_seen else None,
                "instruction": view.instruction.action.value,
            }
            for view in self._boot_entries.list()
        ]


def _node(record: NodeRecord) -> dict[str, Any]:
    return {
        "name": record.name,
        "zone": record.zone,
        "rack": record.rack,
        "state": record.state.value,
        "address": record.address or None,
        "os": record.os or None,
        "kernel": record.kernel or None,
        "serial": record.serial or None,
        "revision": record.revision,
        "operation": record.operation or None,
        "maintenance": record.maintenance,
        "locked": record.locked,
        "fault": record.fault or None,
    }
