"""What a step on one node may use: the node's specification, its drivers, and the services around it."""

from __future__ import annotations

from dataclasses import dataclass
from threading import RLock
from typing import Protocol

from levier.domain.bmc import Bmc
from levier.domain.operation import Fence, JsonMap
from levier.domain.site import Node, Site
from levier.domain.ssh import RemoteHost, SshTarget
from levier.saga.step import Step
from levier.services.provisioning import Provisioning


@dataclass(frozen=True, slots=True)
class OperationTerms:
    """What was fixed when the operation was planned, and holds for each of its steps."""

    operation: str
    kind: str
    revision: int
    site: Site


class Grip(Protocol):
    """A worker's hold on its operation, as far as one node is concerned."""

    @property
    def fence(self) -> Fence:
        """What store writes of this worker are conditional on."""
        ...

    def guard(self) -> None:
        """This worker still owns the operation. Raises LeaseLost."""
        ...

    def hold(self) -> int:
        """The operation holds the node's lease; its generation. Safe to repeat. Raises Conflict."""
        ...

    def outputs(self, step: str) -> JsonMap:
        """What `step` recorded for the node; empty when it did not succeed."""
        ...


class NodeContext:
    """One node inside one operation. Drivers are opened on first use and closed with the context."""

    def __init__(self, terms: OperationTerms, node: Node, services: Provisioning, grip: Grip) -> None:
        self.terms = terms
        self.node = node
        self.services = services
        self._grip = grip
        self._lock = RLock()
        self._bmc: Bmc | None = None
        self._host: RemoteHost | None = None

    @property
    def name(self) -> str:
        """The node's name."""
        return self.node.name

    @property
    def operation(self) -> str:
        """The operation's id."""
        return self.terms.operation

    @property
    def site(self) -> Site:
        """The site as of the operation's revision."""
        return self.terms.site

    @property
    def fence(self) -> Fence:
        """What store writes of this worker are conditional on."""
        return self._grip.fence

    def outputs(self, step: str) -> JsonMap:
        """What `step` recorded for this node in this operation; empty when it did not succeed. Safe to repeat."""
        return self._grip.outputs(step)

    def hold(self) -> int:
        """The operation holds this node; the lease's generation. Safe to repeat. Raises Conflict naming the holder."""
        return self._grip.hold()

    def guard(self) -> None:
        """This worker still owns the operation and the node; the drivers ask right before each command they send.

        Steps ask before what is no driver's command, such as a file of ours. Raises LeaseLost.
        """
        self._grip.guard()

    def bmc(self) -> Bmc:
        """The node's BMC driver. Safe to repeat. Raises NotFound for an unknown credential."""
        with self._lock:
            if self._bmc is None:
                self._bmc = self.services.open_bmc(self.node, self.guard)
            return self._bmc

    def host(self, target: SshTarget) -> RemoteHost:
        """The node's host over SSH at `target`. Safe to repeat."""
        with self._lock:
            if self._host is None:
                self._host = self.services.open_host(target, self.guard)
            return self._host

    def close(self) -> None:
        """Every driver of this context is closed. Safe to repeat."""
        with self._lock:
            if self._bmc is not None:
                self._bmc.close()
            if self._host is not None:
                self._host.close()
            self._bmc = self._host = None


NodeStep = Step[NodeContext]
