"""Prefect as Levier sees it: flow runs with states, a runner that starts a process for each, and an adoption sweep.

As in Prefect, a process reports the end of its run whatever became of the run meanwhile, and a run whose process was
killed stays Running until somebody notices.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from levier.saga.recovery import RunState
from levier.services.prefect_gateway import FlowRunState
from tests.simulation.kernel import EPOCH, Kernel, Process
from tests.simulation.scenario import Blow

RETURN_S = 600.0
"""Until a machine that went down with its runner is back."""
START_S = 1.0
SWEEP_S = 4.0
"""Two sweeps of the runner, the second of which confirms the first (flows/adoption.py)."""


@dataclass
class Run:
    """A flow run and the processes that were started for it, the last one last."""

    id: str
    kind: str
    operation: str
    state: RunState
    processes: list[Process]
    since_s: float = 0.0
    forgotten: bool = False
    """Its runner never comes back: who knows nothing else believes it to run for ever."""


class Orchestrator:
    """Fits levier.services.prefect_gateway.PrefectGateway, as far as recovery and rollbacks need it."""

    def __init__(self, kernel: Kernel, launch: Callable[[Run], Process]) -> None:
        self.kernel = kernel
        self.runs: dict[str, Run] = {}
        self._launch = launch
        self.before_retry: Callable[[Run], None] = lambda _run: None
        self._keys: dict[str, str] = {}
        self._numbers = itertools.count(1)

    # --- what Levier calls ------------------------------------------------------------------------------------------

    def start(self, kind: str, parameters: dict[str, Any], *, idempotency_key: str | None = None) -> str:
        self.kernel.point(f"prefect start {kind}")
        return self.schedule(kind, str(parameters["operation"]), key=idempotency_key)

    def run_state(self, run: str) -> RunState:
        self.kernel.point("prefect state")
        return self.runs[run].state if run in self.runs else RunState.MISSING

    def find(self, run: str) -> FlowRunState | None:
        self.kernel.point("prefect find")
        if run not in self.runs:
            return None
        known = self.runs[run]
        kind = "SCHEDULED" if known.state is RunState.WAITING else known.state.value.upper()
        return FlowRunState(run, kind, "", EPOCH + timedelta(seconds=known.since_s))

    def retry(self, run: str) -> None:
        self.kernel.point("prefect retry")
        self.before_retry(self.runs[run])
        self._set(self.runs[run], RunState.WAITING, "retry")

    def give_up(self, run: str, reason: str) -> None:
        self.kernel.point("prefect give up")
        if run in self.runs and self.runs[run].state is RunState.RUNNING:
            self._set(self.runs[run], RunState.CRASHED, reason)

    # --- what goes on inside ----------------------------------------------------------------------------------------

    def new_id(self) -> str:
        """The id of a run to come."""
        return f"run-{next(self._numbers)}"

    def schedule(self, kind: str, operation: str, *, key: str | None = None, run_id: str = "") -> str:
        """A flow run waits for the runner; its id."""
        if key is not None and key in self._keys:
            return self._keys[key]
        run = Run(run_id or self.new_id(), kind, operation, RunState.WAITING, [])
        self.runs[run.id] = run
        if key is not None:
            self._keys[key] = run.id
        self._set(run, RunState.WAITING, f"{kind} {operation} scheduled")
        return run.id

    def report(self, run: Run, state: RunState) -> None:
        """A process says how its run ended; Prefect believes it."""
        self._set(run, state, "reported by its process")

    def killed(self, run: Run, process: Process, blow: Blow) -> None:
        """The process is dead. Its runner takes the run up again: soon, or, if it died too, on its return, if ever."""
        if blow is Blow.LOST:
            run.forgotten = True
            return

        def sweep() -> None:
            if run.processes[-1] is process and run.state is RunState.RUNNING:
                self._set(run, RunState.WAITING, "its process was lost")

        self.kernel.call_later(SWEEP_S if blow is Blow.KILL else RETURN_S, sweep)

    def cancel(self, run: Run) -> None:
        """Somebody cancelled the run: its process is killed, and it is Cancelled."""
        for process in run.processes:
            self.kernel.kill(process, "its flow run was cancelled")
        self._set(run, RunState.CANCELLED, "cancelled in Prefect")

    def _set(self, run: Run, state: RunState, why: str) -> None:
        self.kernel.tell("prefect", f"{run.id} {state}: {why}")
        run.state, run.since_s = state, self.kernel.now_s
        if state is RunState.WAITING:
            self.kernel.call_later(START_S, self._begin, run)

    def _begin(self, run: Run) -> None:
        if run.state is RunState.WAITING:
            run.state, run.since_s = RunState.RUNNING, self.kernel.now_s
            run.forgotten = False
            run.processes.append(self._launch(run))
