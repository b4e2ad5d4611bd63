"""What a simulated history is made of: a site, plans, faults, and who is interrupted when. Small enough to be read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import chain

from hypothesis import strategies as st


class Going(StrEnum):
    """Which function of a step a fault concerns."""

    BEFORE = "before"
    DO = "do"
    UNDO = "undo"


class FaultKind(StrEnum):
    """What a machine does to a command."""

    REFUSED = "refused"
    UNREACHABLE = "did not happen"
    LOST = "unknown, did not happen"
    UNKNOWN = "unknown, happened"
    LATE = "late"
    HANG = "hangs past the lease"
    DEFECT = "defect in the step"


class OutageKind(StrEnum):
    """What the store does."""

    AWAY = "away"
    READ_ONLY = "read-only"
    SILENT = "commits and does not say so"


class Blow(StrEnum):
    """What happens to a process."""

    KILL = "killed, its runner sees it"
    MACHINE = "killed with its runner"
    LOST = "killed with its runner, which never comes back"
    STOP = "stopped past its lease"
    UI_CANCEL = "its flow run cancelled in Prefect"


@dataclass(frozen=True)
class Fault:
    """A machine's fault: on this step of this node (modulo how many there are), the first `times` times."""

    node: int
    step: str
    going: Going
    kind: FaultKind
    times: int


@dataclass(frozen=True)
class Outage:
    """The store's: from the n-th call on, for so long (seconds). A silent one strikes once."""

    call: int
    kind: OutageKind
    seconds: int


@dataclass(frozen=True)
class Interruption:
    """A process's: at the n-th point that a flow's process comes to."""

    point: int
    blow: Blow


@dataclass(frozen=True)
class Order:
    """An operation: `steps` of the sequence on the nodes `first` to `last`."""

    steps: frozenset[str]
    first: int
    last: int
    wave_size: int
    parallel: int
    after_s: int
    stages: int = 0
    """Not 0: the steps are in so many stages over all nodes together, instead of waves of some nodes."""
    pillars: int = 0
    """Of a staged operation: so many of its nodes are what the others are built on."""


@dataclass(frozen=True)
class Scenario:
    """A whole history but for what follows from it."""

    nodes: int
    addresses: int
    powered: frozenset[int]
    orders: tuple[Order, ...]
    faults: tuple[Fault, ...]
    outages: tuple[Outage, ...]
    interruptions: tuple[Interruption, ...]
    cancels: tuple[int, ...]
    """Points at which an operator cancels."""
    recoveries: tuple[int, ...]
    """Points at which somebody runs a recovery, beside the scheduled one."""
    verdicts: tuple[str, ...]
    """What the operator does, one after the other, about operations at rest."""
    choices: tuple[int, ...]
    """Who goes on, where several could; after the last one always the first."""


SEQUENCE = (
    "acquire-lease",
    "verify-bmc",
    "mark-deploying",
    "allocate-address",
    "create-key",
    "power-off",
    "publish-entry",
    "set-boot",
    "power-on",
    "write-image",
    "boot-host",
    "withdraw-entry",
    "wipe-tpm",
    "configure",
    "mark-ready",
)
IRREVERSIBLE = "wipe-tpm"
OPTIONAL = tuple(name for name in SEQUENCE if name not in ("acquire-lease", "mark-deploying", IRREVERSIBLE))
VERDICTS = (("repair", "resume"), ("resume",), ("rollback",), ("skip", "resume"), ("abandon",), ("regret",))
"""What an operator does about an operation at rest; `regret` rolls a succeeded one back."""


@st.composite
def orders(draw: st.DrawFn, nodes: int) -> Order:
    """An operation that leaves out some steps of the sequence, if any."""
    left_out = draw(st.frozensets(st.sampled_from(OPTIONAL), max_size=3))
    irreversible = draw(st.integers(0, 7)) == 7
    steps = {name for name in SEQUENCE if name not in left_out and (irreversible or name != IRREVERSIBLE)}
    first = draw(st.sampled_from([0, nodes - 1, nodes // 2]))
    return Order(
        steps=frozenset(steps),
        first=first,
        last=draw(st.sampled_from([nodes - 1, first])),
        wave_size=draw(st.sampled_from([1, 2, 100])),
        parallel=draw(st.sampled_from([20, 1, 2])),
        after_s=draw(st.sampled_from([0, 1, 30])),
        stages=draw(st.sampled_from([0, 0, 4])),
        pillars=draw(st.integers(0, 2)),
    )


FAULTS = st.builds(
    Fault,
    node=st.integers(0, 5),
    step=st.sampled_from(SEQUENCE),
    going=st.sampled_from([Going.DO, Going.UNDO, Going.BEFORE]),
    kind=st.sampled_from(list(FaultKind)),
    times=st.sampled_from([1, 5, 2, 99]),
)
OUTAGES = st.builds(
    Outage, call=st.integers(0, 400), kind=st.sampled_from(list(OutageKind)), seconds=st.sampled_from([1, 20, 300])
)
POINTS = st.one_of(st.integers(0, 120), st.integers(0, 400))
"""A history of one node has about a hundred of them."""
INTERRUPTIONS = st.builds(Interruption, point=POINTS, blow=st.sampled_from(list(Blow)))


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    """Any history; the simplest is one node, one operation, and nothing that goes wrong."""
    nodes = draw(st.integers(1, 6))
    return Scenario(
        nodes=nodes,
        addresses=draw(st.sampled_from([100, 3, 1])),
        powered=draw(st.frozensets(st.integers(0, 5), max_size=3)),
        orders=tuple(draw(st.lists(orders(nodes), min_size=1, max_size=2))),
        faults=tuple(draw(st.lists(FAULTS, max_size=4))),
        outages=tuple(draw(st.lists(OUTAGES, max_size=2))),
        interruptions=tuple(draw(st.lists(INTERRUPTIONS, max_size=3))),
        cancels=tuple(draw(st.lists(POINTS, max_size=1))),
        recoveries=tuple(draw(st.lists(POINTS, max_size=2))),
        verdicts=tuple(chain.from_iterable(draw(st.lists(st.sampled_from(VERDICTS), max_size=3)))),
        choices=tuple(draw(st.lists(st.integers(0, 5), max_size=60))),
    )


# --- in words --------------------------------------------------------------------------------------------------------


def in_words(scenario: Scenario) -> str:
    """The scenario as a person reads it; what is as usual is left out."""
    powered = [f"n{n}" for n in sorted(scenario.powered) if n < scenario.nodes]
    lines = [
        f"{scenario.nodes} nodes, {scenario.addresses} addresses{', on: ' + ', '.join(powered) if powered else ''}"
    ]
    lines += [_order_in_words(order) for order in scenario.orders]
    lines += [f"fault: n{f.node} {f.going} {f.step}: {f.kind}, {f.times} times" for f in scenario.faults]
    lines += [f"outage: from call {o.call} of the store: {o.kind}, {o.seconds} s" for o in scenario.outages]
    lines += [f"interruption: at point {i.point}: {i.blow}" for i in scenario.interruptions]
    lines += [f"an operator cancels at point {point}" for point in scenario.cancels]
    lines += [f"a recovery runs at point {point}" for point in scenario.recoveries]
    lines += [f"the operator's verdicts: {', '.join(scenario.verdicts)}"] if scenario.verdicts else []
    lines += [f"choices: {scenario.choices}"] if any(scenario.choices) else []
    return "\n".join(f"  {line}" for line in lines)


def _order_in_words(order: Order) -> str:
    left_out = [name for name in SEQUENCE if name not in order.steps and name != IRREVERSIBLE]
    extra = [f"with {IRREVERSIBLE}"] if IRREVERSIBLE in order.steps else []
    extra += [f"without {', '.join(left_out)}"] if left_out else []
    waves = f"{order.stages} stages, {order.pillars} pillars" if order.stages else f"waves of {order.wave_size}"
    extra += [f"{waves}, {order.parallel} at a time"]
    extra += [f"after {order.after_s} s"] if order.after_s else []
    return f"expand n{order.first}-n{order.last}: {'; '.join(extra)}"
