"""One lab as an object: what the command line, and tests, use."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from levier.domain.bmc import BmcAddress, Credentials
from levier.domain.errors import NotFound
from levier.lab.bringup import bring_up
from levier.lab.control import ask
from levier.lab.faults import Fault, FaultKind, checked, require_capable
from levier.lab.layout import Layout, state_dir
from levier.lab.ledger import Event, follow_events, read_events
from levier.lab.network import namespace_path
from levier.lab.sitefile import CREDENTIAL
from levier.lab.spec import RackSpec
from levier.lab.status import lab_status
from levier.lab.teardown import take_down

ALL = "all"
"""Stands for every node of the rack."""


@dataclass(frozen=True, slots=True)
class Rack:
    """The lab called `name` with its files in `directory`. Making the object touches nothing."""

    name: str
    directory: Path

    @classmethod
    def at(cls, *, name: str = "demo", directory: Path | None = None) -> Rack:
        """The lab of that name in `directory`, $LEVIER_LAB_DIR or the usual place; the directory's own name wins."""
        where = state_dir(name=name, explicit=directory)
        layout = Layout(where)
        if layout.spec.exists():
            name = RackSpec.from_json(layout.spec.read_text(encoding="utf-8")).name
        return cls(name=name, directory=where)

    @property
    def layout(self) -> Layout:
        """The lab's files."""
        return Layout(self.directory)

    def up(self, spec: RackSpec, *, replace: bool = False) -> None:
        """The lab is up and all its machines are off. Conflict when there is one already, unless `replace`."""
        if replace:
            self.down()
            take_down(spec.name, self.layout)
        bring_up(spec, self.layout)

    def down(self, *, keep: bool = False) -> bool:
        """Nothing of the lab is left (with `keep`: but its ledger and logs). Safe to repeat; True if there was one."""
        return take_down(self.name, self.layout, keep=keep)

    def status(self) -> dict[str, Any]:
        """What `lab status --json` prints. Raises NotFound."""
        return lab_status(self.layout)

    def node(self, name: str) -> dict[str, Any]:
        """One node's part of the status. Raises NotFound."""
        for node in self.status()["nodes"]:
            if node["name"] == name:
                return dict(node)
        raise NotFound(f"the lab {self.name} has no node {name}")

    def events(self, *, node: str | None = None, kind: str | None = None, since: int = 0) -> list[Event]:
        """The ledger's matching entries after sequence number `since`, oldest first."""
        return list(read_events(self.layout.ledger, node=node, kind=kind, since=since))

    def follow(self, *, node: str | None = None, kind: str | None = None, since: int = 0) -> Iterator[Event]:
        """The ledger's matching entries, and further ones as they come."""
        return follow_events(self.layout.ledger, node=node, kind=kind, since=since)

    def inject(self, node: str, fault: Fault) -> list[str]:
        """The fault is armed on the node, or on each for `all`; their names. Safe to repeat: it counts from 0 again.

        Raises InvalidRequest for a fault that one of them cannot do, NotFound for an unknown node. Then nothing is
        armed.
        """
        nodes, spec = self._names(node), self.spec()
        require_capable([spec.node(name) for name in nodes], fault.kind)
        ask(self.layout.control, {"op": "inject", "nodes": nodes, "fault": checked(fault).to_json()})
        return nodes

    def faults(self) -> list[dict[str, Any]]:
        """What is armed, with how often it could have struck (`seen`) and did (`struck`)."""
        self.spec()
        return list(ask(self.layout.control, {"op": "faults"})["faults"])

    def heal(self, node: str = ALL, kind: FaultKind | None = None) -> list[dict[str, Any]]:
        """Nothing (of this kind) is armed on the node, or on any for `all`; what was. Safe to repeat."""
        request = {"op": "heal", "nodes": self._names(node), "kind": kind}
        return list(ask(self.layout.control, request)["healed"])

    def _names(self, node: str) -> list[str]:
        names = [one.name for one in self.spec().nodes]
        if node == ALL:
            return names
        if node not in names:
            raise NotFound(
                f"the lab {self.name} has no node {node}", hint=f"it has: {', '.join(names[:20])}; or `{ALL}`"
            )
        return [node]

    def spec(self) -> RackSpec:
        """What the lab was asked to be. Raises NotFound when it is down."""
        if not self.layout.spec.exists():
            raise NotFound(f"there is no lab in {self.directory}", hint="start one with `levier lab up`")
        return RackSpec.from_json(self.layout.spec.read_text(encoding="utf-8"))

    def credentials(self) -> Credentials:
        """User and password of all BMCs."""
        raw = json.loads(self.layout.credentials.read_text(encoding="utf-8"))[CREDENTIAL]
        return Credentials(username=raw["username"], password=raw["password"])

    def bmc(self, node: str) -> BmcAddress:
        """Where the node's BMC listens, inside the lab's namespace."""
        found = self.spec().node(node)
        return BmcAddress(host=found.bmc_address, port=found.bmc_port)

    def inside(self, *argv: str) -> list[str]:
        """The command line that runs `argv` where the lab's machines are: inside its namespace, if it has one."""
        namespace = self.spec().namespace
        return ["nsenter", f"--net={namespace_path(namespace)}", *argv] if namespace else list(argv)
