"""States of a node and the transitions between them; everything else is refused."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict

from levier.domain.errors import Conflict


class NodeState(StrEnum):
    """Where a node is in its life."""

    DISCOVERED = "discovered"
    """Seen, and not yet in a site file."""
    ENROLLED = "enrolled"
    """In the site file; not yet shown to be what the file says."""
    AVAILABLE = "available"
    """Its BMC answers and its inventory matches the site file; it runs nothing."""
    DEPLOYING = "deploying"
    """An operation makes it a host, or takes that back."""
    READY = "ready"
    """A verified host that carries no workload."""
    IN_SERVICE = "in_service"
    """A host that may carry workload."""
    DRAINING = "draining"
    """Its workload is leaving, or has left."""
    REINSTALLING = "reinstalling"
    """Its operating system is written anew."""
    RETIRING = "retiring"
    """It leaves the site."""
    RETIRED = "retired"
    """It has left the site; its disks are wiped."""


_S = NodeState

FORWARD: Mapping[NodeState, tuple[NodeState, ...]] = MappingProxyType(
    {
        _S.DISCOVERED: (_S.ENROLLED,),
        _S.ENROLLED: (_S.AVAILABLE, _S.RETIRING),
        _S.AVAILABLE: (_S.DEPLOYING, _S.RETIRING),
        _S.DEPLOYING: (_S.READY,),
        _S.READY: (_S.IN_SERVICE, _S.REINSTALLING, _S.RETIRING),
        _S.IN_SERVICE: (_S.DRAINING,),
        _S.DRAINING: (_S.READY, _S.REINSTALLING, _S.RETIRING),
        _S.REINSTALLING: (_S.READY,),
        _S.RETIRING: (_S.RETIRED,),
        _S.RETIRED: (_S.ENROLLED,),
    }
)
"""Transitions by which an operation goes on."""

BACKWARD: Mapping[NodeState, tuple[NodeState, ...]] = MappingProxyType(
    {
        _S.DISCOVERED: (),
        _S.ENROLLED: (_S.DISCOVERED, _S.RETIRED),
        _S.AVAILABLE: (_S.ENROLLED,),
        _S.DEPLOYING: (_S.AVAILABLE,),
        _S.READY: (_S.DEPLOYING, _S.AVAILABLE),
        _S.IN_SERVICE: (_S.READY,),
        _S.DRAINING: (_S.IN_SERVICE,),
        _S.REINSTALLING: (_S.DRAINING,),
        _S.RETIRING: (_S.ENROLLED, _S.AVAILABLE, _S.DRAINING, _S.READY),
        _S.RETIRED: (),
    }
)
"""Transitions by which an operation is undone: the forward ones reversed where the step can be undone.

`ready` goes back to `available` in one step when a whole expansion is rolled back. Nothing leads back from `retired` to
`retiring`, since the disks are wiped (docs/decisions/0053).
"""


def allowed_from(state: NodeState) -> tuple[NodeState, ...]:
    """The states that may follow `state`, forward ones first."""
    return tuple(dict.fromkeys((*FORWARD[state], *BACKWARD[state])))


def transition(state: NodeState, to: NodeState, *, node: str = "a node") -> NodeState:
    """The node's state is `to`, which is returned. Already being there is no error, so a repeated step is safe.

    Raises Conflict for any other pair that neither table has, naming what is allowed.
    """
    if to is state or to in allowed_from(state):
        return to
    allowed = ", ".join(allowed_from(state))
    raise Conflict(f"{node} is {state} and cannot become {to}", hint=f"from {state} it can become: {allowed}")


class NodeFlags(BaseModel):
    """What holds apart from the state; the state stays what it was when a flag comes or goes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    maintenance: bool = False
    """A person works on the machine: no operation starts on it."""
    locked: bool = False
    """Nothing may be changed on it until it is unlocked."""
    fault: str | None = None
    """Why the machine is not to be trusted; None when nothing is wrong."""

    def with_fault(self, reason: str) -> NodeFlags:
        """These flags with a fault; a later fault replaces an earlier one. Raises ValueError for an empty reason."""
        if not reason.strip():
            raise ValueError("a fault needs a reason")
        return self.model_copy(update={"fault": reason.strip()})

    def without_fault(self) -> NodeFlags:
        """These flags without a fault. Safe to repeat."""
        return self.model_copy(update={"fault": None})

    def words(self) -> tuple[str, ...]:
        """The flags that are set, as an operator reads them."""
        fault = () if self.fault is None else (f"fault: {self.fault}",)
        return (*(("maintenance",) if self.maintenance else ()), *(("locked",) if self.locked else ()), *fault)


def require_operable(name: str, flags: NodeFlags) -> None:
    """An operation may start on the node. Raises Conflict, naming the flags in the way and how each is cleared."""
    words = flags.words()
    if not words:
        return
    hint = f"clear the flag of {name}, then start again"
    if flags.fault is not None:
        hint = f"look at the machine, then: levier node clear-fault {name} --reason TEXT"
    raise Conflict(f"node {name} is set aside ({'; '.join(words)})", hint=hint)
