"""What Levier knows about a node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from levier.domain.node import NodeFlags, NodeState


@dataclass(frozen=True, slots=True)
class SiteNode:
    """A node as the site file names it: what the store needs to list it."""

    name: str
    zone: str
    rack: str = ""


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """What Levier knows about a node."""

    name: str
    zone: str
    rack: str
    state: NodeState
    maintenance: bool = False
    locked: bool = False
    fault: str = ""
    """Why it must not be used; empty when it is well."""
    address: str = ""
    os: str = ""
    kernel: str = ""
    serial: str = ""
    revision: int | None = None
    """Configuration revision it runs."""
    operation: str = ""
    """The operation that holds it."""
    inventory: Mapping[str, Any] = field(default_factory=dict)
    """As the ramdisk reported it (levier.domain.inventory.Inventory)."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """As SSH reported them (levier.domain.inventory.HostFacts)."""
    updated: datetime | None = None

    @property
    def flags(self) -> NodeFlags:
        """What holds apart from the state."""
        return NodeFlags(maintenance=self.maintenance, locked=self.locked, fault=self.fault or None)
