"""What a person may decide about an operation that got stuck: resume, skip, abandon. Each decision is in its log."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any, Protocol

from levier.domain.audit import AuditEntry, OrderVerb, audit, required_reason
from levier.domain.errors import Conflict, InvalidRequest, NotFound
from levier.domain.operation import (
    STUCK,
    Fence,
    JsonMap,
    OperationEvent,
    OperationEventKind,
    OperationState,
    OperationStatus,
    StepEvent,
    StepState,
    StepStatus,
    TargetOutcome,
    UndoState,
)
from levier.saga.log import StepLog
from levier.saga.step import StepRegistry, Undo


class VerbLog(Protocol):
    """What the verbs need of the store beside the step log. Each method is one transaction."""

    def find(self, key: str) -> str | None:
        """The id of the operation that was created with `key`."""
        ...

    def history(self, operation_id: str) -> tuple[tuple[OperationEvent, ...], tuple[StepEvent, ...]]:
        """Both parts of the operation's log, in order. Raises NotFound."""
        ...

    def note(self, fence: Fence, kind: OperationEventKind, *, detail: JsonMap, at: datetime) -> None:
        """An event that is no change of state is in the log. Raises LeaseLost."""
        ...

    def abandoned_on(self, node: str) -> tuple[Fence, ...]:
        """The right to tidy up after each operation abandoned with something of it on the node, not cleared since.

        No worker can have these fences: an abandoned operation is over for good. Newest first.
        """
        ...

    def order(
        self, operation_id: str, *, detail: JsonMap, at: datetime, states: Collection[OperationState] | None = None
    ) -> None:
        """The decision (`detail` with its `verb`) is in the log.

        None is added while the same decision is the last one and no worker followed it. Raises NotFound, and Conflict
        when the operation is in none of `states`.
        """
        ...

    def skip(self, operation_id: str, *, step: str, target: str, data: JsonMap, at: datetime) -> None:
        """The step, or its undo, is out of the plan. Raises Conflict when it may not be skipped now."""
        ...

    def abandon(self, operation_id: str, *, detail: JsonMap, at: datetime) -> None:
        """The operation is cancelled and holds no node; every Fence of it is dead. Raises Conflict unless stuck."""
        ...


def ways_out(status: OperationStatus) -> str:
    """What can be done about an operation in its state, as commands."""
    identity = status.id
    return {
        OperationState.SUCCEEDED: f"undo it: levier rollback {identity}",
        OperationState.ROLLED_BACK: "it is over: start another one",
        OperationState.CANCELLED: "it is over: start another one",
        OperationState.HELD: f"levier operation resume|skip|abandon {identity}, or undo it: levier rollback {identity}",
        OperationState.NEEDS_OPERATOR: f"levier operation resume|skip|abandon {identity}",
    }.get(
        status.state,
        f"watch it: levier operation watch {identity}; stop it: levier operation cancel {identity}; "
        "if nobody works on it any more: levier recover",
    )


class Verbs:
    """The decisions on stuck operations, checked against what the operation is and written into its log."""

    def __init__(
        self, log: StepLog, verb_log: VerbLog, registry: StepRegistry, *, clock: Callable[[], datetime]
    ) -> None:
        self._log = log
        self._verbs = verb_log
        self._registry = registry
        self._clock = clock

    def find(self, key: str) -> str | None:
        """The operation that a flow run with this id ordered. Safe to repeat."""
        return self._verbs.find(key)

    def abandoned_on(self, node: str) -> tuple[Fence, ...]:
        """The right to tidy up after each operation abandoned with something of it on the node, not cleared since."""
        return self._verbs.abandoned_on(node)

    def is_ordered(self, operation_id: str) -> bool:
        """Somebody decided something that no worker has followed yet. Safe to repeat. Raises NotFound."""
        for event in reversed(self._verbs.history(operation_id)[0]):
            if event.worker:
                return False
            if event.kind is OperationEventKind.ORDERED:
                return True
        return False

    def audit(self, operation_id: str) -> tuple[AuditEntry, ...]:
        """Who decided what about the operation, when and why. Safe to repeat. Raises NotFound."""
        return audit(*self._verbs.history(operation_id))

    def note(self, fence: Fence, kind: OperationEventKind, detail: JsonMap) -> None:
        """The event is in the log. Raises LeaseLost."""
        self._verbs.note(fence, kind, detail=detail, at=self._clock())

    def order(self, operation_id: str, verb: OrderVerb, *, who: str, reason: str = "", **detail: Any) -> None:
        """The decision is in the log, whatever state the operation is in. Safe to repeat. Raises NotFound."""
        words = {"verb": verb.value, "who": who, "reason": reason, **detail}
        self._verbs.order(operation_id, detail=words, at=self._clock())

    def resume(self, operation_id: str, *, who: str, reason: str) -> str:
        """The decision to go on is in the log; `forward` or `unwinding`, which is where it goes on.

        Safe to repeat. Raises NotFound; Conflict, naming what can be done, unless the operation is stuck.
        """
        status = self._stuck(operation_id, "resume")
        direction = "unwinding" if status.goes_back else "forward"
        words = {"verb": OrderVerb.RESUME.value, "who": who, "reason": reason, "direction": direction}
        self._verbs.order(operation_id, detail=words, at=self._clock(), states=STUCK)
        return direction

    def skip(self, operation_id: str, step: str, *, target: str | None, who: str, reason: str) -> StepStatus:
        """The failed step counts as done, or its failed undo as given up; the step as it was before that.

        The operation stays stuck until it is resumed or abandoned. Not safe to repeat: a second time is refused. Raises
        InvalidRequest without a reason or for a step it does not have; Conflict when it is not stuck, the step did not
        fail, or a later step needs its outputs.
        """
        reason = required_reason(reason, verb="skip")
        status = self._stuck(operation_id, "skip")
        chosen = _chosen(status, step, target)
        self._check_skippable(status, chosen)
        failure = chosen.undo_error or chosen.error
        data = {
            "who": who,
            "reason": reason,
            "skipped": "the undo of" if _undo_failed(chosen) else "step",
            "because": f"{failure.error}: {failure.message}" if failure else "its outcome is open",
        }
        self._verbs.skip(operation_id, step=chosen.step, target=chosen.target, data=data, at=self._clock())
        return chosen

    def abandon(self, operation_id: str, *, who: str, reason: str) -> None:
        """The operation is cancelled as it stands and holds no node. Raises InvalidRequest, Conflict like `skip`.

        Nothing is touched on any machine. Whoever calls this has said in the node records what stands (`abandoned`).
        """
        reason = required_reason(reason, verb="abandon")
        status = self._stuck(operation_id, "abandon")
        detail = {
            "verb": OrderVerb.ABANDON.value,
            "who": who,
            "reason": reason,
            "nodes": [target for target, _ in left_behind(status)],
        }
        self._verbs.abandon(operation_id, detail=detail, at=self._clock())

    def effects_left(self, status: OperationStatus) -> dict[str, list[str]]:
        """Each target that is neither well nor as before, with what changed something there and was not undone."""
        return {
            target: [step for step in steps if self._registry.get(step).undo is not Undo.NO_EFFECT]
            for target, steps in left_behind(status)
        }

    def check_stuck(self, operation_id: str, verb: str) -> OperationStatus:
        """The operation as it is. Raises Conflict, naming what can be done, unless it is stuck."""
        return self._stuck(operation_id, verb)

    def _stuck(self, operation_id: str, verb: str) -> OperationStatus:
        status = self._log.status(operation_id)
        if status.state not in STUCK:
            raise Conflict(
                f"operation {operation_id} is {status.state}: there is nothing to {verb}", hint=ways_out(status)
            )
        return status

    def _check_skippable(self, status: OperationStatus, chosen: StepStatus) -> None:
        where = f"{chosen.step} on {chosen.target}"
        if _undo_failed(chosen):
            return
        if not _failed_forward(chosen):
            what = f"is {chosen.undo if chosen.undo is not UndoState.NONE else chosen.state}"
            raise Conflict(
                f"{where} {what}: only what failed can be skipped", hint=f"levier operation show {status.id}"
            )
        if not self._registry.get(chosen.step).needs_lease:
            raise Conflict(
                f"{where} cannot be skipped: without the lease two operations could work on the node",
                hint=f"end the operation that holds it, then: levier operation resume {status.id}",
            )
        needing = self._needing(status, chosen)
        if needing:
            raise Conflict(
                f"{where} cannot be skipped: {', '.join(needing)} need what it finds out",
                hint=f"repair the cause and resume: levier operation resume {status.id}",
            )

    def _needing(self, status: OperationStatus, chosen: StepStatus) -> list[str]:
        """The steps on the same target that are not done and cannot do without the outputs of `chosen`."""
        return [
            s.step
            for s in status.steps
            if s.target == chosen.target and not s.done and chosen.step in self._registry.get(s.step).needs
        ]


def left_behind(status: OperationStatus) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Each target that is neither well nor as before, with the steps that stand on it. Pure."""
    standing = {target: tuple(s.step for s in status.stands if s.target == target) for target in status.targets}
    return tuple(
        (target, steps)
        for target, steps in standing.items()
        if steps and status.targets[target].outcome is not TargetOutcome.READY
    )


def _undo_failed(step: StepStatus) -> bool:
    return step.undo in (UndoState.FAILED, UndoState.RUNNING)


def _failed_forward(step: StepStatus) -> bool:
    """It failed or its outcome is open, and nobody is undoing it; one that failed and was undone counts as well."""
    open_or_failed = step.state in (StepState.FAILED, StepState.UNKNOWN, StepState.RUNNING)
    return open_or_failed and step.undo in (UndoState.NONE, UndoState.UNDONE)


def _chosen(status: OperationStatus, step: str, target: str | None) -> StepStatus:
    named = [s for s in status.steps if s.step == step and target in (None, s.target)]
    if not named:
        where = f" on {target}" if target is not None else ""
        raise NotFound(
            f"operation {status.id} has no step {step}{where}", hint=f"levier operation show {status.id} lists them"
        )
    failed = [s for s in named if _undo_failed(s) or _failed_forward(s)] or named
    if len(failed) > 1:
        raise InvalidRequest(
            f"{step} is to be decided for each of {', '.join(s.target for s in failed)}", hint="name one with --node"
        )
    return failed[0]
