"""Takes up flow runs whose process is gone, so that they go on under the same id.

Prefect leaves the run of a killed runner in state Running for ever, and the run of a killed flow process in state
Crashed. Both are made to run again by Prefect's own Retry: a transition to AwaitingRetry. What was done already is
known by the step log, not by Prefect (docs/decisions/0082).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, WorkPoolFilter
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.logging import get_logger
from prefect.states import AwaitingRetry, Cancelled, Crashed

WORKER_LABEL = "prefect.worker.name"
MAX_ATTEMPTS = 20
"""A run that took its process down this often is left Crashed: a person must look."""
UNLABELLED_AGE = timedelta(seconds=30)
"""A worker labels a run right after it took it; one without a label for this long lost its worker in between."""


class Verdict(StrEnum):
    """What is to become of a flow run."""

    LEAVE = "leave"
    RETRY = "retry"
    CANCEL = "cancel"
    GIVE_UP = "give-up"


@dataclass(frozen=True, slots=True)
class RunView:
    """What the verdict on a flow run depends on. `worker` is None when no worker has labelled it yet."""

    id: UUID
    state: StateType
    since: datetime
    worker: str | None
    attempts: int


@dataclass(frozen=True, slots=True)
class RunnerView:
    """What this runner knows: its name, the runs it has processes for, those whose process was killed under it."""

    name: str
    live: Collection[UUID] = field(default_factory=frozenset)
    killed: Collection[UUID] = field(default_factory=frozenset)


def verdict(run: RunView, runner: RunnerView, now: datetime) -> Verdict:
    """What `runner` does with `run`. Runs of other workers and live ones are left alone."""
    if run.id in runner.live or run.worker not in (runner.name, None):
        return Verdict.LEAVE
    if run.worker is None and now - run.since < UNLABELLED_AGE:
        return Verdict.LEAVE
    if run.state == StateType.CANCELLING:
        return Verdict.CANCEL
    if run.state == StateType.CRASHED and run.id not in runner.killed:
        return Verdict.LEAVE
    if run.state not in (StateType.RUNNING, StateType.PENDING, StateType.CRASHED):
        return Verdict.LEAVE
    return Verdict.RETRY if run.attempts < MAX_ATTEMPTS else Verdict.GIVE_UP


class Adoption:
    """Sweeps the work pool for runs that lost their process. `client` stays open: making one costs most of a sweep."""

    def __init__(self, pool: str, client: PrefectClient) -> None:
        self._pool = pool
        self._client = client
        self._suspects: set[UUID] = set()
        self._log = get_logger("levier.adoption")

    @property
    def suspects(self) -> frozenset[UUID]:
        """Runs that the next sweep may take up or cancel."""
        return frozenset(self._suspects)

    async def sweep(self, runner: RunnerView, *, confirm: bool) -> dict[UUID, Verdict]:
        """Runs of this runner without a process are scheduled again or cancelled; what was done. Safe to repeat.

        With `confirm` a run is touched only when the sweep before this one came to a verdict on it too: between the
        end of a process and the report of its state, a run looks lost for a moment. Without, right away: for a runner
        that has just started and can have no process yet.
        """
        found = self._judge(await self._candidates(), runner)
        due = {run: what for run, what in found.items() if not confirm or run in self._suspects}
        self._suspects = set(found) - set(due)
        for run, what in due.items():
            await self._carry_out(run, what)
        return due

    def _judge(self, runs: Iterable[FlowRun], runner: RunnerView) -> dict[UUID, Verdict]:
        now = datetime.now(UTC)
        verdicts = {run.id: verdict(_view(run), runner, now) for run in runs}
        return {run: what for run, what in verdicts.items() if what is not Verdict.LEAVE}

    async def _candidates(self) -> list[FlowRun]:
        states = ["RUNNING", "PENDING", "CANCELLING", "CRASHED"]
        return await self._client.read_flow_runs(
            flow_run_filter=FlowRunFilter.model_validate(
                {"state": {"type": {"any_": states}}, "deployment_id": {"is_null_": False}}
            ),
            work_pool_filter=WorkPoolFilter.model_validate({"name": {"any_": [self._pool]}}),
            limit=200,
        )

    async def _carry_out(self, run: UUID, what: Verdict) -> None:
        if what is Verdict.RETRY:
            # The scheduled time is not optional: without it the run is never handed to a worker.
            again: State[Any] = AwaitingRetry(
                scheduled_time=datetime.now(UTC), message="its process was lost; it goes on"
            )
            await self._client.set_flow_run_state(run, again, force=True)
        elif what is Verdict.CANCEL:
            gone: State[Any] = Cancelled(message="cancelled while its process was lost")
            await self._client.set_flow_run_state(run, gone, force=True)
        else:
            message = f"its process was lost {MAX_ATTEMPTS} times: look at the runner's log"
            await self._client.set_flow_run_state(run, Crashed(message=message), force=True)
        self._log.warning("flow run %s had lost its process: %s", run, what.value)


def _view(run: FlowRun) -> RunView:
    assert run.state is not None  # noqa: S101 - the filter selects by state
    label = run.labels.get(WORKER_LABEL)
    return RunView(run.id, run.state.type, run.state.timestamp, None if label is None else str(label), run.run_count)
