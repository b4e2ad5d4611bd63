"""What a step on one node may use: the node's specification, its drivers, and the services around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from threading import RLock
from typing import Protocol

from levier.domain.bmc import Bmc
from levier.domain.errors import Conflict
from levier.domain.operation import Fence, JsonMap
from levier.domain.site import Node, Site
from levier.domain.ssh import RemoteHost, SshTarget
from levier.saga.step import Step
from levier.services.cloud import Cloud
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

    def check(self) -> None:
        """As `guard`, and nobody wants the operation stopped. Raises LeaseLost, Cancelled."""
        ...

    def hold(self) -> int:
        """The operation holds the node's lease; its generation. Safe to repeat. Raises Conflict."""
        ...

    def outputs(self, step: str) -> JsonMap:
        """What `step` recorded for the node; empty when it did not succeed."""
        ...


class NodeDrivers:
    """The drivers of one node, opened on first use."""

    def __init__(self, node: Node, services: Provisioning, guard: Callable[[], None]) -> None:
        self._node = node
        self._services = services
        self._guard = guard
        self._lock = RLock()
        self._bmc: Bmc | None = None
        self._host: RemoteHost | None = None

    def bmc(self) -> Bmc:
        """The node's BMC driver. Safe to repeat. Raises NotFound for an unknown credential."""
        with self._lock:
            if self._bmc is None:
                self._bmc = self._services.open_bmc(self._node, self._guard)
            return self._bmc

    def host(self, target: SshTarget) -> RemoteHost:
        """The node's host over SSH at `target`. Safe to repeat."""
        with self._lock:
            if self._host is None:
                self._host = self._services.open_host(target, self._guard)
            return self._host

    def close(self) -> None:
        """Every driver is closed. Safe to repeat."""
        with self._lock:
            if self._bmc is not None:
                self._bmc.close()
            if self._host is not None:
                self._host.close()
            self._bmc = self._host = None


@dataclass(frozen=True, slots=True)
class NodeContext:
    """One node inside one operation, as one step sees it."""

    terms: OperationTerms
    node: Node
    services: Provisioning
    grip: Grip
    drivers: NodeDrivers
    step: Step[NodeContext] | None = None
    """The step that works with it; it can get at the outputs only that it says it needs."""

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
        return self.grip.fence

    def outputs(self, step: str) -> JsonMap:
        """What `step` recorded for this node in this operation. Safe to repeat. Raises Conflict when it did not.

        A step that has not declared it (`needs`) is a defect: a person could skip what it cannot do without.
        """
        if self.step is not None and step not in self.step.needs:
            raise TypeError(f"step {self.step.name} reads the outputs of {step} without saying that it needs them")
        recorded = self.grip.outputs(step)
        if not recorded:
            raise Conflict(
                f"{step} recorded nothing for {self.name} in operation {self.operation}",
                hint="roll the operation back and start it again",
            )
        return recorded

    def outputs_if_any(self, step: str) -> JsonMap:
        """As `outputs`, for what a step can do without: empty when `step` was skipped or did not succeed."""
        return self.grip.outputs(step)

    def hold(self) -> int:
        """The operation holds this node; the lease's generation. Safe to repeat. Raises Conflict naming the holder."""
        return self.grip.hold()

    def guard(self) -> None:
        """This worker still owns the operation and the node; the drivers ask right before each command they send.

        Steps ask before what is no driver's command, such as a file of ours. Waits for a database that is away. Raises
        LeaseLost.
        """
        self.grip.guard()

    def check(self) -> None:
        """Going on makes sense: for the safe points of a long wait, and of forward steps only.

        Raises LeaseLost; Cancelled when somebody wants the operation stopped.
        """
        self.grip.check()

    def bmc(self) -> Bmc:
        """The node's BMC driver. Safe to repeat. Raises NotFound for an unknown credential."""
        return self.drivers.bmc()

    def host(self, target: SshTarget) -> RemoteHost:
        """The node's host over SSH at `target`. Safe to repeat."""
        return self.drivers.host(target)

    # --- the cloud on the hosts -------------------------------------------------------------------------------------

    @property
    def cloud(self) -> Cloud:
        """Components and releases, for the steps of an installation."""
        if self.services.cloud is None:
            raise TypeError("these services know no components: levier.bootstrap wires them")
        return self.services.cloud

    def own_host(self) -> RemoteHost:
        """This node's host over SSH, at the address it is known by. Safe to repeat. Raises NotFound without one."""
        address = self.services.address_of(self.site, self.name)
        return self.host(self.services.ssh_target(self.site, self.name, address))

    @contextmanager
    def host_of(self, component: str) -> Iterator[RemoteHost]:
        """The first host that runs `component`, which may be this one. Raises NotFound when none does."""
        node = self.cloud.first_host(self.site, component)
        if node == self.name:
            yield self.own_host()
            return
        target = self.services.ssh_target(self.site, node, self.services.address_of(self.site, node))
        with closing(self.services.open_host(target, self.guard)) as host:
            yield host

    def close(self) -> None:
        """Every driver of this node is closed. Safe to repeat."""
        self.drivers.close()


NodeStep = Step[NodeContext]
