"""How long steps will take, going by how long they took. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median

from levier.domain.install_plan import SMOKE_TEST
from levier.domain.operation_status import OperationStatus, StepState

REFERENCE_S: Mapping[str, float] = {
    "install-packages": 40,
    "unpack-bundle": 10,
    "configure-": 0.3,
    "database-": 0.1,
    "message-queue-": 1.5,
    "catalog-": 0.7,
    "start-": 4,
    "smoke-server": 60,
    "smoke-": 20,
    "power-on": 2,
    "await-agent": 45,
    "write-image": 20,
    "boot-host": 30,
}
"""Beginning of a step's name → seconds, as measured on machines of two processors (docs/install.md)."""
OTHERS_S = 2.0
"""What a step takes that nothing is known of."""
REPEATED_S = 0.5
"""What a step takes that finds its work done."""


@dataclass(frozen=True, slots=True)
class StepEstimates:
    """Seconds by name of step: where it had to act, and where it found its work done."""

    acting_s: Mapping[str, float]
    repeated_s: Mapping[str, float]

    def of(self, step: str, *, done: bool) -> float:
        """Seconds of `step`; `done`: on a host where its work was done before. A smoke test is made each time."""
        if done and step not in SMOKE_TEST:
            return self.repeated_s.get(step, REPEATED_S)
        return self.acting_s.get(step) or next(
            (s for name, s in REFERENCE_S.items() if step.startswith(name)), OTHERS_S
        )


def learnt(earlier: Iterable[OperationStatus]) -> StepEstimates:
    """The medians of what `earlier` operations measured. A step tells by `changed` whether it had to act."""
    acting: dict[str, list[float]] = defaultdict(list)
    repeated: dict[str, list[float]] = defaultdict(list)
    for step in (step for operation in earlier for step in operation.steps):
        if step.state is not StepState.SUCCEEDED or step.duration_s is None:
            continue
        idle = (step.outputs or {}).get("changed") == []
        (repeated if idle else acting)[step.step].append(step.duration_s)
    return StepEstimates(_medians(acting), _medians(repeated))


def _medians(measured: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: median(values) for name, values in measured.items()}


def stage_s(
    steps: Iterable[tuple[str, str]], estimates: StepEstimates, *, done_on: Iterable[str], parallel: int
) -> float:
    """Seconds that steps (name, host) take: one after the other on a host, `parallel` hosts at a time."""
    done, by_host = frozenset(done_on), defaultdict[str, float](float)
    for step, host in steps:
        by_host[host] += estimates.of(step, done=host in done)
    return max(max(by_host.values(), default=0.0), sum(by_host.values()) / parallel)
