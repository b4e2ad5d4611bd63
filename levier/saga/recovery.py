"""Recovery as a pure plan: log, flow-run states and the time in, one verdict per operation out. Flows carry it out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from levier.domain.operation import SETTLED, OperationState, OperationStatus
from levier.saga.engine import compatible

MAX_TAKEOVERS = 5
"""Times an operation is taken up again without any progress in between before a person is asked."""
BEGIN_S = 60.0
"""Seconds in which the process of a flow run that was started takes its operation over."""


class RunState(StrEnum):
    """What the orchestrator says about a flow run."""

    WAITING = "waiting"
    """Scheduled, pending, paused, awaiting its retry: it will go on by itself."""
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CRASHED = "crashed"
    CANCELLED = "cancelled"
    MISSING = "missing"
    """The orchestrator knows no such run."""

    @property
    def ended(self) -> bool:
        """It does nothing more by itself."""
        return self not in (RunState.WAITING, RunState.RUNNING)


class RecoveryVerb(StrEnum):
    """What is to be done about an operation."""

    RESUME = "resume"
    """Run its flow again (Retry of the same flow run): it goes on at the exact step."""
    UNWIND = "unwind"
    """Start, or go on with, its rollback in a flow run of its own; without any step standing it ends at once."""
    REFUSE = "refuse-incompatible"
    """This version may not touch it."""
    ESCALATE = "escalate"
    """Taken up too often without progress: set it to `needs_operator`."""
    LEAVE = "leave"


@dataclass(frozen=True, slots=True)
class RecoveryAction:
    """One verdict, with its reason in words for the flow's `dry_run`."""

    operation: str
    verb: RecoveryVerb
    reason: str
    run: str = ""
    """The flow run of the last worker."""
    run_cancelled: bool = False
    """Somebody cancelled that run in the orchestrator, which asks for the operation to be cancelled."""


def plan_recovery(
    operations: Iterable[OperationStatus],
    *,
    now: datetime,
    runs: Mapping[str, RunState],
    code_version: str,
    since: Mapping[str, datetime] | None = None,
    max_takeovers: int = MAX_TAKEOVERS,
) -> tuple[RecoveryAction, ...]:
    """One action for each operation, in their order. `runs` is keyed by flow-run id; one not in it is MISSING.

    `since` says when the runs entered their states: one that runs has `BEGIN_S` to take its operation over.

    A second call with what the first one's execution led to asks for nothing twice: a run that is waiting, or running
    with a worker alive, is left alone.
    """
    return tuple(
        RecoveryAction(
            status.id, verb, reason, status.run or status.operation.key, run_cancelled=_asks_to_cancel(status, runs)
        )
        for status in operations
        for verb, reason in [
            _verdict(
                status, now=now, runs=runs, since=since or {}, code_version=code_version, max_takeovers=max_takeovers
            )
        ]
    )


def _asks_to_cancel(status: OperationStatus, runs: Mapping[str, RunState]) -> bool:
    """Its run was cancelled while it went forward; cancelling a run that undoes asks for nothing new."""
    run = runs.get(status.run or status.operation.key, RunState.MISSING)
    return run is RunState.CANCELLED and status.state is not OperationState.UNWINDING


def _verdict(
    status: OperationStatus,
    *,
    now: datetime,
    runs: Mapping[str, RunState],
    since: Mapping[str, datetime],
    code_version: str,
    max_takeovers: int,
) -> tuple[RecoveryVerb, str]:
    if status.state in SETTLED:
        return RecoveryVerb.LEAVE, f"it is {status.state}"
    run = runs.get(status.run or status.operation.key, RunState.MISSING)
    if _alive(status, run, now=now, since=since.get(status.run or status.operation.key)):
        return RecoveryVerb.LEAVE, f"its flow run is {run} and its worker alive"
    begun_with = status.operation.code_version
    if not compatible(begun_with, code_version):
        return RecoveryVerb.REFUSE, f"begun by Levier {begun_with}, this is {code_version}: finish it with {begun_with}"
    if status.takeovers >= max_takeovers:
        return RecoveryVerb.ESCALATE, f"taken up {status.takeovers} times without progress"
    return _direction(status, run)


def _alive(status: OperationStatus, run: RunState, *, now: datetime, since: datetime | None) -> bool:
    """Whether it will go on by itself.

    A run that runs is alive for a while without a sign of life: its process is starting. Not for ever, since it may
    have died before it could take the operation over.

    A run that ended is dead at once, whatever its last sign of life says: its worker may still be acting (seen for 21 s
    after a kill -9), and is fenced off by the one that takes over.
    """
    if run is RunState.WAITING:
        return True
    if run is not RunState.RUNNING:
        # Waiting for a person, or ordered by somebody who is about to start its run.
        return status.state is OperationState.AWAITING_APPROVAL and status.cancel_requested is None
    if status.expires is not None and now <= status.expires:
        return True
    if since is None:
        return status.expires is None
    return now <= since + timedelta(seconds=BEGIN_S)


def _direction(status: OperationStatus, run: RunState) -> tuple[RecoveryVerb, str]:
    if status.state is OperationState.UNWINDING:
        return RecoveryVerb.UNWIND, f"its unwinding was interrupted: the flow run is {run}"
    if status.cancel_requested is not None:
        return RecoveryVerb.UNWIND, f"cancelling was asked for and its flow run is {run}"
    if run is RunState.CANCELLED:
        return RecoveryVerb.UNWIND, "its flow run was cancelled"
    if run is RunState.RUNNING:
        return RecoveryVerb.RESUME, "its worker shows no sign of life"
    return RecoveryVerb.RESUME, f"it is {status.state}, but its flow run is {run}"
