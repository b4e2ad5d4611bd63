"""What the supervisor is told about a process: data only."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from levier.domain.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class HttpReady:
    """Ready when a GET of `url` is answered with 200, asked from within the process's network namespace."""

    url: str


@dataclass(frozen=True, slots=True)
class FileReady:
    """Ready when the process has created `path`, which the supervisor removes before each start."""

    path: Path


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How a process that ended by itself is started again: after `first_s`, doubled each time up to `max_s`.

    After `stable_s` seconds of running, the next delay is `first_s` again. While the installation starts, a process
    may end `start_attempts - 1` times before it was ready once; then the whole start has failed.
    """

    first_s: float = 0.5
    max_s: float = 30.0
    stable_s: float = 60.0
    start_attempts: int = 3

    def delay_s(self, failures: int) -> float:
        """Seconds to wait after `failures` ends in a row (1, 2, …)."""
        return float(min(self.first_s * 2 ** min(failures - 1, 16), self.max_s))


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process to keep running. `env` is added to the supervisor's own environment and never shown by repr."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    ready: HttpReady | FileReady | None = None
    """None: ready when it has run for `SETTLED_S` seconds."""
    depends_on: tuple[str, ...] = ()
    """Names of processes that are ready before this one is started, and stopped after it."""
    restart: RestartPolicy = RestartPolicy()
    start_timeout_s: float = 300.0
    """Ample: on a busy two-core machine the Prefect server was seen to take 76 s."""
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 10.0
    namespace: str | None = None
    """Network namespace of ip-netns(8) it runs in; None is the supervisor's own."""


SETTLED_S = 1.0


def in_start_order(specs: tuple[ProcessSpec, ...]) -> tuple[ProcessSpec, ...]:
    """`specs` with every process after those it depends on. Raises InvalidRequest for unknown names and circles."""
    names = {spec.name for spec in specs}
    if len(names) != len(specs):
        raise InvalidRequest("two processes have the same name")
    for spec in specs:
        if unknown := set(spec.depends_on) - names:
            raise InvalidRequest(f"{spec.name} depends on the unknown {', '.join(sorted(unknown))}")
    ordered: list[ProcessSpec] = []
    left = list(specs)
    while left:
        done = {spec.name for spec in ordered}
        free = [spec for spec in left if done.issuperset(spec.depends_on)]
        if not free:
            raise InvalidRequest(f"{', '.join(spec.name for spec in left)} depend on each other in a circle")
        ordered += free
        left = [spec for spec in left if spec not in free]
    return tuple(ordered)


def only(specs: tuple[ProcessSpec, ...], names: tuple[str, ...]) -> tuple[ProcessSpec, ...]:
    """The named processes, without dependencies on those left out; all of them for no names. Raises InvalidRequest."""
    known = {spec.name for spec in specs}
    if unknown := set(names) - known:
        raise InvalidRequest(
            f"there is no process {', '.join(sorted(unknown))}", hint=f"there are {', '.join(sorted(known))}"
        )
    kept = set(names) or known
    return tuple(
        replace(spec, depends_on=tuple(d for d in spec.depends_on if d in kept)) for spec in specs if spec.name in kept
    )
