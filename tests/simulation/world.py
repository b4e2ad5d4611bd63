"""The simulated machines and what Levier keeps about them: power, boot entries, addresses, keys, disks, records.

A node is a handful of facets. Each command sets one; whoever sends it must be the operation's present worker and hold
the node, which is checked here, where the command arrives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from levier.domain.errors import OutcomeUnknown, Rejected, Unreachable
from levier.domain.operation import Fence
from tests.simulation.kernel import Kernel
from tests.simulation.memory_log import MemoryLog
from tests.simulation.scenario import FaultKind, Going, Scenario

HANG_S = 400.0
"""Longer than a lease."""
INITIAL = {
    "record": "enrolled",
    "address": "",
    "key": "",
    "power": "off",
    "entry": "",
    "boot": "disk",
    "disk": "somebody's",
    "tpm": "somebody's",
    "config": "somebody's",
    "host": "",
}


@dataclass
class World:
    """All nodes, and the book of what was commanded."""

    kernel: Kernel
    log: MemoryLog
    scenario: Scenario
    nodes: dict[str, dict[str, str]] = field(default_factory=dict)
    before: dict[str, dict[str, str]] = field(default_factory=dict)
    images: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Image writes by operation and node."""
    struck: Counter[int] = field(default_factory=Counter)
    happened: list[str] = field(default_factory=list)
    healthy: bool = False
    """No fault strikes any more."""

    def __post_init__(self) -> None:
        for number in range(self.scenario.nodes):
            name = f"n{number}"
            power = "on" if number in self.scenario.powered else "off"
            self.nodes[name] = INITIAL | {"power": power}
            self.before[name] = dict(self.nodes[name])

    def look(self, node: str, facet: str, step: str, going: Going) -> str:
        """The facet as it is now. Raises what the machine's fault makes of a question."""
        self.kernel.point(f"{going} {step} looks")
        fault = self._due(node, step, going, asking=True)
        if fault in (FaultKind.REFUSED, FaultKind.UNREACHABLE):
            raise Unreachable(f"{node} does not answer")
        if fault is not None:
            raise OutcomeUnknown(f"{node} did not finish its answer")
        return self.nodes[node][facet]

    def command(
        self, fence: Fence, node: str, facet: str, value: str, *, step: str, going: Going, permit: Callable[[], None]
    ) -> None:
        """The facet has the value. Raises what the machine's fault makes of the command, before or after."""
        fault = self._due(node, step, going)
        if fault is FaultKind.DEFECT:
            raise ZeroDivisionError(f"a defect in {step}")
        if fault is FaultKind.REFUSED:
            raise Rejected(f"{node} refuses")
        if fault is FaultKind.HANG:
            self.kernel.sleep(HANG_S)
        permit()  # nothing comes between the permission and the packet: that window is the network's, not Levier's
        if fault is FaultKind.UNREACHABLE:
            raise Unreachable(f"{node} is not reached")
        if fault is not FaultKind.LOST:
            self._arrive(fence, node, facet, value)
        self.kernel.point(f"{going} {step} commanded")
        if fault is FaultKind.LATE:
            self.kernel.sleep(30)
        if fault in (FaultKind.LOST, FaultKind.UNKNOWN):
            raise OutcomeUnknown(f"{node} did not answer")

    def _arrive(self, fence: Fence, node: str, facet: str, value: str) -> None:
        if not self.log.is_current(fence):
            self.kernel.violate(f"{fence.worker} commands {node} {facet}={value}, though it was fenced off")
        holder = self.log.locks[node].lease if node in self.log.locks else None
        if holder is None or holder.operation != fence.operation:
            self.kernel.violate(f"{fence.operation} commands {node} {facet}={value} and does not hold it")
        self.nodes[node][facet] = value
        if facet == "disk" and value.startswith("image"):
            self.images[fence.operation, node] += 1
        self.kernel.tell(fence.worker, f"{node} {facet} := {value or '-'}")

    def answered(self, node: str, step: str, going: Going) -> None:
        """The answer to something that has happened came, or raises what its fault makes of it."""
        if self._due(node, step, going) is not None:
            raise OutcomeUnknown(f"no answer about {node}")

    def allocate(self, fence: Fence, node: str, operation: str) -> str:
        """The node has an address of the pool: one transaction of the store. None free: Rejected."""
        taken = {facets["address"].partition(" ")[0] for facets in self.nodes.values()}
        own = self.nodes[node]["address"]
        if own:
            return own
        free = next((a for n in range(self.scenario.addresses) if (a := f"a{n}") not in taken), None)
        if free is None:
            raise Rejected(f"no free address for {node}")
        self.nodes[node]["address"] = f"{free} of {operation}"
        self.kernel.tell(fence.worker, f"{node} address := {free}")
        return self.nodes[node]["address"]

    def _due(self, node: str, step: str, going: Going, *, asking: bool = False) -> FaultKind | None:
        if self.healthy:
            return None
        for number, fault in enumerate(self.scenario.faults):
            hits = (f"n{fault.node % len(self.nodes)}", fault.step, fault.going) == (node, step, going)
            # A fault of a command does not strike the look that comes before it.
            if not hits or (asking and going is not Going.BEFORE) or self.struck[number] >= fault.times:
                continue
            self.struck[number] += 1
            self.happened.append(f"{fault.kind}")
            self.kernel.tell(node, f"--- fault: {going} {step}: {fault.kind}")
            return fault.kind
        return None
