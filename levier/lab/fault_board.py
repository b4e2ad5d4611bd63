"""All armed faults of a rack: the daemon's side of `levier lab inject`, `faults` and `heal`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from levier.domain.errors import InvalidRequest, Unreachable
from levier.lab.control import Answer, ask
from levier.lab.faults import Fault, FaultKind, FaultSource, NodeFaults, checked, require_capable
from levier.lab.layout import Layout
from levier.lab.ledger import Record
from levier.lab.spec import NodeSpec, RackSpec


class FaultBoard:
    """The faults of every node. They live as long as the daemon."""

    def __init__(self, rack: RackSpec, *, recorder: Callable[[NodeSpec], Record]) -> None:
        self._rack = rack
        self._nodes = {node.name: NodeFaults(node=node.name, record=recorder(node)) for node in rack.nodes}
        self._operations: dict[str, Callable[[dict[str, Any]], Answer]] = {
            "inject": self._inject,
            "faults": self._list,
            "heal": self._heal,
            "due": self._due,
        }

    def of(self, node: str) -> NodeFaults:
        """The faults of one node. Raises KeyError for a node that is not there."""
        return self._nodes[node]

    def answer(self, request: dict[str, Any]) -> Answer | None:
        """The answer to a request about faults, None when it is about something else."""
        operation = self._operations.get(str(request.get("op")))
        if operation is None:
            return None
        try:
            return operation(request)
        except (InvalidRequest, KeyError, TypeError, ValueError) as error:
            return {"error": f"{request.get('op')}: {error}"}

    def _inject(self, request: dict[str, Any]) -> Answer:
        fault = checked(Fault.from_json(request["fault"]))
        concerned = [self._nodes[name] for name in request["nodes"]]
        require_capable([self._rack.node(name) for name in request["nodes"]], fault.kind)
        for node in concerned:
            node.arm(fault)
        return {"armed": len(concerned)}

    def _list(self, request: dict[str, Any]) -> Answer:
        return {"faults": [row for node in self._nodes.values() for row in node.snapshot()]}

    def _heal(self, request: dict[str, Any]) -> Answer:
        kind = FaultKind(request["kind"]) if request.get("kind") else None
        concerned = {name: self._nodes[name] for name in request["nodes"]}
        healed = [{"node": name, "fault": one.value} for name, node in concerned.items() for one in node.heal(kind)]
        return {"healed": healed}

    def _due(self, request: dict[str, Any]) -> Answer:
        fault = self._nodes[request["node"]].due(FaultKind(request["kind"]), **request["circumstances"])
        return {"fault": fault.to_json() if fault else None}


class DaemonFaults(FaultSource):
    """The faults of one node as a process beside the daemon asks for them."""

    def __init__(self, layout: Layout, *, node: str) -> None:
        self._layout = layout
        self._node = node

    def due(self, kind: FaultKind, **circumstances: str) -> Fault | None:
        """The fault that strikes this occurrence; None too when there is no daemon that could have armed one."""
        request = {"op": "due", "node": self._node, "kind": kind.value, "circumstances": circumstances}
        try:
            found = ask(self._layout.control, request)["fault"]
        except Unreachable:
            return None
        return Fault.from_json(found) if found else None
