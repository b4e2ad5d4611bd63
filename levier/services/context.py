"""What a step on one node may use: the node's specification, its drivers, and the services around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import RLock
from typing import TYPE_CHECKING

from levier.domain.bmc import Bmc
from levier.domain.site import Node, Site
from levier.domain.ssh import RemoteHost, SshTarget
from levier.saga.step import JsonMap

if TYPE_CHECKING:
    from levier.services.registry import Services


@dataclass(frozen=True, slots=True)
class OperationTerms:
    """What was fixed when the operation was planned, and holds for each of its steps."""

    operation: str
    kind: str
    revision: int
    site: Site


class NodeContext:
    """One node inside one operation. Drivers are opened on first use and closed with the context."""

    def __init__(
        self,
        terms: OperationTerms,
        node: Node,
        services: Services,
        *,
        guard: Callable[[], None],
        outputs_of: Callable[[str], JsonMap | None],
    ) -> None:
        self.terms = terms
        self.node = node
        self.services = services
        self._guard = guard
        self._outputs_of = outputs_of
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

    def outputs(self, step: str) -> JsonMap:
        """What `step` recorded for this node in this operation; empty when it did not succeed. Safe to repeat."""
        return self._outputs_of(step) or {}

    def guard(self) -> None:
        """This worker still owns the operation and the node; called right before each command to hardware.

        Raises LeaseLost.
        """
        self._guard()

    def bmc(self) -> Bmc:
        """The node's BMC driver. Safe to repeat. Raises NotFound for an unknown credential."""
        with self._lock:
            if self._bmc is None:
                self._bmc = self.services.open_bmc(self.node)
            return self._bmc

    def host(self, target: SshTarget) -> RemoteHost:
        """The node's host over SSH at `target`. Safe to repeat."""
        with self._lock:
            if self._host is None:
                self._host = self.services.open_host(target)
            return self._host

    def close(self) -> None:
        """Every driver of this context is closed. Safe to repeat."""
        with self._lock:
            if self._bmc is not None:
                self._bmc.close()
            if self._host is not None:
                self._host.close()
            self._bmc = self._host = None
