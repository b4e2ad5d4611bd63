"""Nodes that are set aside: a fault is cleared by a person who has looked at the machine."""

from __future__ import annotations

from typing import Any

from levier.domain.audit import OrderVerb, required_reason
from levier.domain.errors import Conflict
from levier.domain.node import NodeState
from levier.saga.verbs import Verbs
from levier.services.inventory_view import InventoryView
from levier.services.provisioning import Provisioning


class SetAside:
    """Clears what keeps a node from being used."""

    def __init__(self, provisioning: Provisioning, verbs: Verbs, inventory: InventoryView) -> None:
        self._provisioning = provisioning
        self._verbs = verbs
        self._inventory = inventory

    def clear_fault(self, name: str, *, who: str, reason: str) -> dict[str, Any]:
        """The node has no fault and can be used again. Safe to repeat.

        Levier forgets what abandoned operations left of it in its own books (boot entry, address, host key); a node
        that was half deployed is `enrolled` again, since nothing is known of it until it is matched anew. The machine
        is not touched. Raises InvalidRequest without a reason; NotFound; Conflict while an operation holds it.
        """
        why = required_reason(reason, verb="clear-fault")
        nodes = self._provisioning.nodes
        record = nodes.get(name)
        if record.operation:
            raise Conflict(
                f"node {name} is held by operation {record.operation}",
                hint=f"levier operation show {record.operation}",
            )
        if record.fault:
            for by in self._verbs.abandoned_on(name):
                self._provisioning.forget(name, by=by)
                self._verbs.order(by.operation, OrderVerb.CLEAR_FAULT, who=who, reason=why, node=name)
            if record.state is NodeState.DEPLOYING:
                self._back_to_enrolled(name)
            nodes.set_flags(name, fault="")
        return self._inventory.node(name)

    def _back_to_enrolled(self, name: str) -> None:
        nodes = self._provisioning.nodes
        nodes.update_facts(name, os="", kernel="", address="", revision=0)
        nodes.set_state(name, NodeState.AVAILABLE, expected=[NodeState.DEPLOYING])
        nodes.set_state(name, NodeState.ENROLLED, expected=[NodeState.AVAILABLE])
