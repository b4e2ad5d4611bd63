"""The saga: runs and undoes single steps against the log. It decides nothing about order, waves or waiting."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from levier.domain.errors import (
    Conflict,
    IncompatibleVersion,
    InvalidRequest,
    Irreversible,
    LeaseLost,
    StoreUnavailable,
    UndoFailed,
)
from levier.domain.operation import (
    FINAL,
    Fence,
    JsonMap,
    Lease,
    Operation,
    OperationState,
    OperationStatus,
    PlannedStep,
    Settlement,
    StepEventKind,
    StepStatus,
    TargetOutcome,
    UndoState,
    settle,
)
from levier.saga.attempt import AttemptEntry, Conceal, as_it_is, as_json
from levier.saga.log import StepLog
from levier.saga.step import Checkpoint, Step, Undo, should_retry
from levier.saga.store_patience import StorePatience, patient
from levier.saga.unwinding import unwind_plan

C = TypeVar("C")
Clock = Callable[[], datetime]

LEASE_S = 60.0
"""Seconds without a sign of life after which a worker counts as dead. Renew at a third of it."""


def compatible(begun_with: str, current: str) -> bool:
    """Whether code of version `current` may continue what `begun_with` began: same major and minor number.

    Between minor versions the names, outputs and undos of steps may change (docs/decisions/0063).
    """
    return begun_with.split(".")[:2] == current.split(".")[:2]


class Saga:
    """Steps against a log. One object serves any number of operations and threads.

    `conceal` takes out of the texts of errors what nobody may read, before they are logged and raised on.
    """

    def __init__(
        self,
        log: StepLog,
        clock: Clock,
        code_version: str,
        *,
        lease_s: float = LEASE_S,
        conceal: Conceal = as_it_is,
    ) -> None:
        self._log = log
        self._clock = clock
        self._code_version = code_version
        self._lease = timedelta(seconds=lease_s)
        self.conceal = conceal
        self.renew_every_s = min(5.0, lease_s / 3)
        """Seconds between two signs of life of a worker."""

    # --- operations -------------------------------------------------------------------------------------------------

    def create(
        self,
        *,
        kind: str,
        targets: Sequence[str],
        plan: Sequence[PlannedStep],
        parameters: JsonMap | None = None,
        requested_by: str = "",
        key: str = "",
    ) -> Operation:
        """The operation is in the log, `planned`. Safe to repeat with the same `key` (a flow-run id).

        Raises InvalidRequest when the plan names a step twice for a target, or leaves a target out.
        """
        _check_plan(targets, plan)
        return self._log.create(
            Operation(
                id=f"{kind}-{secrets.token_hex(4)}",
                kind=kind,
                targets=tuple(targets),
                plan=tuple(plan),
                created=self._clock(),
                code_version=self._code_version,
                parameters=parameters or {},
                requested_by=requested_by,
                key=key,
            )
        )

    def status(self, operation_id: str, *, target: str | None = None) -> OperationStatus:
        """The fold of the operation's log (with `target`: of that target's part). Raises NotFound."""
        return self._log.status(operation_id, target=target)

    def statuses(
        self, *, states: Collection[OperationState] | None = None, limit: int | None = None
    ) -> tuple[OperationStatus, ...]:
        """The operations in one of `states` (None: all), newest first, at most `limit`."""
        return self._log.statuses(states=states, limit=limit)

    def begin(self, operation_id: str, *, worker: str, run: str = "") -> Fence:
        """`worker` holds the operation and its leases; any older Fence is dead from this commit on.

        The state is left as it is. `run` is the flow run's id. Raises NotFound; Conflict when the operation is over for
        good; IncompatibleVersion when other code began it.
        """
        self.require_compatible(self._log.status(operation_id, target=""))
        now = self._clock()
        return self._log.take_over(
            operation_id,
            worker=worker,
            run=run,
            code_version=self._code_version,
            at=now,
            expires=now + self._lease,
            key=_key(),
        )

    def require_compatible(self, status: OperationStatus) -> None:
        """This version may go on with the operation. Raises IncompatibleVersion, with the way out."""
        begun_with = status.operation.code_version
        if not compatible(begun_with, self._code_version):
            raise IncompatibleVersion(
                f"operation {status.id} was begun by Levier {begun_with}; this is {self._code_version}",
                hint=f"finish it with Levier {begun_with} (resume or roll back), then continue with this version",
            )

    def call_off(self, operation_id: str, reason: str) -> None:
        """An operation that never ran is cancelled; nobody else can begin it. Safe to repeat. Raises Conflict."""
        fence = self.begin(operation_id, worker="nobody")
        self.set_state(fence, OperationState.CANCELLED, {"reason": reason})

    def hand_over(self, operation_id: str, reason: str) -> None:
        """The operation needs an operator: nobody goes on with it by himself. Safe to repeat. Raises Conflict."""
        fence = self.begin(operation_id, worker="recovery")
        self.set_state(fence, OperationState.NEEDS_OPERATOR, {"reason": reason})

    def patient(self, patience: StorePatience) -> Saga:
        """This saga, waiting for its log where it is away: for a worker. Whoever answers a question must not."""
        log = patient(self._log, patience)
        lease_s = self._lease.total_seconds()
        return type(self)(log, self._clock, self._code_version, lease_s=lease_s, conceal=self.conceal)

    def check(self, fence: Fence) -> None:
        """The fence is current. Raises LeaseLost when another worker took over. For looks; see `permit`."""
        if not self._log.is_current(fence):
            raise fence.lost()

    def permit(self, fence: Fence) -> None:
        """A command may go out now: the fence is current, and the log was written just now. Raises LeaseLost.

        A log that can only be read could not tell afterwards what was commanded.
        """
        self.renew(fence)

    def set_state(self, fence: Fence, state: OperationState, detail: JsonMap | None = None) -> None:
        """The operation is in `state`; safe to repeat. Raises Conflict for a forbidden transition, LeaseLost."""
        self._log.set_state(fence, state, detail=detail or {}, at=self._clock())

    def settle(self, fence: Fence) -> Settlement:
        """The operation is in the state its targets add up to (levier.domain.operation.settle). Safe to repeat."""
        status = self._log.status(fence.operation)
        end = settle(status)
        through_unwinding = (OperationState.ROLLED_BACK, OperationState.CANCELLED)
        if status.state is OperationState.RUNNING and end.state in through_unwinding:
            self.set_state(fence, OperationState.UNWINDING, {"reason": end.reason})
        self.set_state(fence, end.state, {"reason": end.reason} if end.reason else {})
        return end

    def over(self, operation_id: str) -> Settlement | None:
        """How the operation ended for good; None when it did not. Safe to repeat. Raises NotFound.

        For a run whose process died between the end of the operation and its own: run again, it tells the same end.
        """
        status = self._log.status(operation_id, target="")
        if status.state not in FINAL:
            return None
        return Settlement(status.state, str(status.state_detail.get("reason", "")))

    def superseded(self, fence: Fence, run: str) -> bool:
        """Another process of the same flow run took the operation over: how that run ends is for it to say."""
        return not self._log.is_current(fence) and self._log.status(fence.operation, target="").run == run

    def request_cancel(self, operation_id: str, who: str, reason: str) -> None:
        """The request is in the log, for the worker to see at its next safe point. Raises NotFound, Conflict."""
        self._log.request_cancel(operation_id, who=who, reason=reason, at=self._clock())

    def cancel_requested(self, operation_id: str) -> bool:
        """Whether a request to cancel is waiting for its answer."""
        return self._log.cancel_requested(operation_id) is not None

    # --- leases -----------------------------------------------------------------------------------------------------

    def acquire_lease(self, fence: Fence, node: str) -> Lease:
        """The operation holds the node; safe to repeat. Raises Conflict naming the operation that holds it."""
        now = self._clock()
        return self._log.acquire_lease(fence, node, at=now, expires=now + self._lease)

    def release_lease(self, fence: Fence, node: str) -> None:
        """The operation does not hold the node; safe to repeat."""
        self._log.release_lease(fence, node)

    def leases(self) -> tuple[Lease, ...]:
        """All leases held, by node."""
        return self._log.leases()

    def renew(self, fence: Fence) -> None:
        """This worker counts as alive for another lease period. Raises LeaseLost."""
        now = self._clock()
        self._log.renew(fence, at=now, expires=now + self._lease)

    # --- steps ------------------------------------------------------------------------------------------------------

    def run(self, fence: Fence, step: Step[C], ctx: C, *, target: str) -> JsonMap:
        """The step is done on `target`; returns its outputs, recorded ones without acting if it was done before.

        One attempt: waiting and repeating is the caller's (should_retry). Whatever the step raises is in the log and
        raised again. Raises Conflict when the target is being undone or the operation is not running.
        """
        status = self._log.status(fence.operation, target=target)
        mine = _planned(status, step.name, target)
        if mine.done:
            return mine.outputs or {}
        _check_forward(status, target)
        self.check(fence)
        fresh = mine.undo is UndoState.UNDONE
        entry = self._entry(fence, step, target, attempt=1 if fresh else mine.attempts + 1)
        before = None if fresh else mine.before
        self._start(entry, step, ctx, before=before)
        with_outputs = entry.concluding(lambda: step.do(ctx))
        entry.append(StepEventKind.SUCCEEDED, {"outputs": with_outputs})
        return with_outputs

    def _start(self, entry: AttemptEntry, step: Step[C], ctx: C, *, before: JsonMap | None) -> None:
        """`started` is committed; the first one with the state before, which is observed here and never again."""
        if before is not None:
            entry.append(StepEventKind.STARTED, {})
            return
        observed = entry.concluding(lambda: step.before(ctx), unknown=False)
        entry.append(StepEventKind.STARTED, {"before": observed})

    def undo(self, fence: Fence, step: Step[C], ctx: C, *, target: str) -> None:
        """What the step did on `target` is undone; nothing happens when it did nothing or is undone already.

        One attempt. Raises UndoFailed with both errors; Irreversible, before anything is touched; Conflict while a step
        that began later still stands.
        """
        status = self._log.status(fence.operation, target=target)
        mine = _planned(status, step.name, target)
        if not mine.stands or mine.undo is UndoState.ABANDONED:
            return
        if step.undo is Undo.IRREVERSIBLE:
            raise Irreversible(
                f"{step.name} on {target} cannot be undone",
                hint=f"repair the cause and resume: levier operation resume {fence.operation}; or leave it held",
            )
        _check_last(status, mine)
        entry = self._entry(fence, step, target, attempt=mine.undo_attempts + 1)
        entry.append(StepEventKind.UNDO_STARTED, {})
        entry.append(StepEventKind.UNDONE, {"outputs": self._call_undo(entry, step, ctx, mine)})

    def _call_undo(self, entry: AttemptEntry, step: Step[C], ctx: C, mine: StepStatus) -> JsonMap:
        if isinstance(step.undo, Undo):
            return {}
        checkpoint = Checkpoint(before=mine.before or {}, outputs=mine.outputs, attempts=mine.attempts)
        try:
            return as_json(step.undo(ctx, checkpoint))
        except (LeaseLost, StoreUnavailable):
            raise
        except BaseException as error:
            entry.append_after(error, StepEventKind.UNDO_FAILED)
            if not isinstance(error, Exception):
                raise
            raise _undo_failed(error, mine) from error

    @staticmethod
    def should_retry(step: Step[Any], error: BaseException, attempt: int) -> float | None:
        """Seconds to wait before the next attempt after number `attempt` failed with `error`; None: do not repeat."""
        return should_retry(step, error, attempt)

    @staticmethod
    def unwind_plan(status: OperationStatus, target: str | None = None) -> tuple[tuple[str, str], ...]:
        """What to undo, as (step, target), last begun first; see levier.saga.unwinding."""
        return unwind_plan(status, target)

    def _entry(self, fence: Fence, step: Step[C], target: str, *, attempt: int) -> AttemptEntry:
        def append(kind: StepEventKind, data: JsonMap) -> None:
            self._log.append(
                fence,
                step=step.name,
                target=target,
                kind=kind,
                attempt=attempt,
                at=self._clock(),
                data=data,
                needs_lease=step.needs_lease,
                key=_key(),
            )

        return AttemptEntry(append, self.conceal)


def _key() -> str:
    """What one write is known by, however often it has to be repeated."""
    return secrets.token_hex(16)


def _check_plan(targets: Sequence[str], plan: Sequence[PlannedStep]) -> None:
    pairs = [(p.step, p.target) for p in plan]
    twice = sorted({f"{s} on {t}" for s, t in pairs if pairs.count((s, t)) > 1}) if len(set(pairs)) < len(pairs) else []
    if twice:
        raise InvalidRequest(f"planned twice: {', '.join(twice)}", hint="a step runs once per target")
    missing = sorted(set(targets) - {t for _, t in pairs})
    if missing or not pairs:
        raise InvalidRequest(f"no step is planned for {', '.join(missing) or 'anything'}", hint="plan every target")


def _planned(status: OperationStatus, step: str, target: str) -> StepStatus:
    try:
        return status.step(step, target)
    except KeyError:
        raise InvalidRequest(
            f"operation {status.id} has no step {step} on {target} in its plan",
            hint="an operation does only what was planned and shown: start another one",
        ) from None


def _check_forward(status: OperationStatus, target: str) -> None:
    outcome = status.targets[target].outcome
    if outcome in (TargetOutcome.UNWINDING, TargetOutcome.UNDONE, TargetOutcome.NEEDS_OPERATOR):
        raise Conflict(
            f"{target} is {outcome} in operation {status.id}: no step goes forward on it",
            hint=f"finish the undo first: levier operation show {status.id}",
        )


def _check_last(status: OperationStatus, mine: StepStatus) -> None:
    later = [s.step for s in status.stands if s.first_seq > mine.first_seq and s.undo is not UndoState.ABANDONED]
    if later:
        raise Conflict(
            f"{mine.step} on {mine.target} cannot be undone before {', '.join(reversed(later))}",
            hint="undo in the order of unwind_plan",
        )


def _undo_failed(error: Exception, mine: StepStatus) -> UndoFailed:
    cause = f"{mine.error.error}: {mine.error.message}" if mine.error else ""
    because = f" (undone because of {cause})" if cause else ""
    return UndoFailed(
        f"{mine.step} on {mine.target} could not be undone: {error}{because}",
        hint=getattr(error, "hint", "") or "repair the cause, then resume the unwinding",
        undo_error=error,
        cause=cause,
    )
