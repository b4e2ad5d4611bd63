"""Nodes, addresses and boot entries."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from levier.api.access import Caller, ServicesOf
from levier.api.operations import Decision

router = APIRouter(tags=["nodes"])


@router.get("/nodes")
def nodes(services: ServicesOf) -> list[dict[str, Any]]:
    """All nodes of the site, by name."""
    return services.inventory.nodes()


@router.get("/nodes/{name}")
def node(name: str, services: ServicesOf) -> dict[str, Any]:
    """One node with its inventory."""
    return services.inventory.node(name)


@router.post("/nodes/{name}/clear-fault")
def clear_fault(name: str, decision: Decision, services: ServicesOf, who: Caller) -> dict[str, Any]:
    """The node has no fault and can be used again. Safe to repeat."""
    return services.set_aside.clear_fault(name, who=who, reason=decision.reason)


@router.get("/addresses")
def addresses(services: ServicesOf) -> list[dict[str, Any]]:
    """All allocated addresses."""
    return services.inventory.addresses()


@router.get("/boot-entries")
def boot_entries(services: ServicesOf) -> list[dict[str, Any]]:
    """All nodes that may boot from the network now."""
    return services.inventory.boot_entries()
