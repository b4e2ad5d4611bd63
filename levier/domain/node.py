"""Nodes: their life cycle and what Levier knows about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from levier.domain.errors import Conflict


class NodeState(StrEnum):
    """Where a node is in its life cycle. Flags (maintenance, locked, fault) are apart from it."""

    DISCOVERED = "discovered"
    ENROLLED = "enrolled"
    AVAILABLE = "available"
    DEPLOYING = "deploying"
    READY = "ready"
    IN_SERVICE = "in-service"
    DRAINING = "draining"
    REINSTALLING = "reinstalling"
    RETIRING = "retiring"
    RETIRED = "retired"


_S = NodeState
NODE_TRANSITIONS: Mapping[NodeState, frozenset[NodeState]] = {
    _S.DISCOVERED: frozenset({_S.ENROLLED}),
    _S.ENROLLED: frozenset({_S.AVAILABLE, _S.DEPLOYING, _S.RETIRING}),
    _S.AVAILABLE: frozenset({_S.ENROLLED, _S.DEPLOYING, _S.RETIRING}),
    # Back to where it came from when the operation is undone.
    _S.DEPLOYING: frozenset({_S.READY, _S.AVAILABLE, _S.ENROLLED}),
    _S.READY: frozenset(
        {_S.IN_SERVICE, _S.REINSTALLING, _S.RETIRING, _S.DRAINING, _S.DEPLOYING, _S.AVAILABLE, _S.ENROLLED}
    ),
    _S.IN_SERVICE: frozenset({_S.DRAINING, _S.READY}),
    _S.DRAINING: frozenset({_S.IN_SERVICE, _S.READY, _S.REINSTALLING, _S.RETIRING}),
    _S.REINSTALLING: frozenset({_S.READY, _S.IN_SERVICE, _S.DRAINING}),
    _S.RETIRING: frozenset({_S.RETIRED, _S.AVAILABLE, _S.READY, _S.DRAINING, _S.ENROLLED}),
    _S.RETIRED: frozenset({_S.ENROLLED}),
}


def check_node_state(old: NodeState, new: NodeState, *, node: str) -> None:
    """A node may go from `old` to `new` (or stay); otherwise Conflict is raised."""
    if new is not old and new not in NODE_TRANSITIONS[old]:
        raise Conflict(f"node {node} is {old} and cannot become {new}", hint=f"see levier node show {node}")


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
