"""Recovery: the pure plan of the saga, carried out with Prefect's flow runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import structlog

from levier.domain.audit import PREFECT, RECOVERY, OrderVerb
from levier.domain.errors import LevierError
from levier.domain.operation import SETTLED, OperationState
from levier.saga.engine import Saga
from levier.saga.recovery import RecoveryAction, RecoveryVerb, RunState, plan_recovery
from levier.saga.verbs import Verbs
from levier.services.prefect_gateway import PrefectGateway
from levier.services.rollback_run import start_rollback

log = structlog.get_logger()

NEVER_BEGAN = (OperationState.PLANNED, OperationState.AWAITING_APPROVAL)


class Recovery:
    """Compares the log of operations with Prefect's flow runs and brings them together again."""

    def __init__(
        self, saga: Saga, verbs: Verbs, prefect: PrefectGateway, *, clock: Callable[[], datetime], code_version: str
    ) -> None:
        self._saga = saga
        self._verbs = verbs
        self._prefect = prefect
        self._clock = clock
        self._code_version = code_version

    def plan(self) -> tuple[RecoveryAction, ...]:
        """What there is to do about operations that nobody works on. Touches nothing; safe to repeat."""
        statuses = self._saga.statuses(states=set(OperationState) - SETTLED)
        found = [f for s in statuses if (run := s.run or s.operation.key) and (f := self._prefect.find(run))]
        runs = {f.flow_run_id: f.run_state for f in found}
        since = {f.flow_run_id: f.since for f in found if f.since is not None}
        return plan_recovery(statuses, now=self._clock(), runs=runs, since=since, code_version=self._code_version)

    def execute(self, actions: Iterable[RecoveryAction]) -> list[dict[str, Any]]:
        """Every action is carried out or under way; what was done, in words. Safe to repeat.

        One that fails says so and stops no other.
        """
        return [_as_map(action) | {"done": self._carry_out(action)} for action in actions]

    def look(self) -> list[dict[str, Any]]:
        """The plan as plain data. Touches nothing; safe to repeat."""
        return [_as_map(action) for action in self.plan()]

    def _carry_out(self, action: RecoveryAction) -> str:
        if action.verb in (RecoveryVerb.LEAVE, RecoveryVerb.REFUSE):
            return "nothing"
        log.warning("recovery", operation=action.operation, verb=action.verb.value, reason=action.reason)
        words = {"action": action.verb.value, "who": RECOVERY, "reason": action.reason}
        try:
            self._verbs.order(action.operation, OrderVerb.RECOVER, **words)
            if action.verb is RecoveryVerb.RESUME:
                return self._resume(action)
            if action.verb is RecoveryVerb.UNWIND:
                return self._unwind(action)
            self._saga.hand_over(action.operation, action.reason)
            self._prefect.give_up(action.run, action.reason)
        except LevierError as error:
            log.error("recovery failed", operation=action.operation, verb=action.verb.value, error=str(error))
            return f"failed: {error}"
        return "it needs an operator now"

    def _resume(self, action: RecoveryAction) -> str:
        state = self._prefect.run_state(action.run)
        if state is RunState.WAITING:
            return f"flow run {action.run} was scheduled meanwhile"
        if state is RunState.MISSING:
            self._saga.hand_over(action.operation, f"Prefect does not know its flow run {action.run} any more")
            return "it needs an operator now: Prefect does not know its flow run"
        self._prefect.retry(action.run)
        return f"flow run {action.run} goes on"

    def _unwind(self, action: RecoveryAction) -> str:
        status = self._saga.status(action.operation)
        if action.run_cancelled and status.cancel_requested is None:
            self._saga.request_cancel(action.operation, PREFECT, f"its flow run {action.run} was cancelled")
        if status.state in NEVER_BEGAN:
            self._saga.call_off(action.operation, "cancelled before it began")
            self._prefect.give_up(action.run, action.reason)
            return "called off: it had not begun"
        rollback = start_rollback(self._prefect, status, now=self._clock())
        if rollback != action.run:
            # Else it would be Running for ever, and its runner would take it up again on its return.
            self._prefect.give_up(action.run, action.reason)
        return f"undone by flow run {rollback}"


def _as_map(action: RecoveryAction) -> dict[str, Any]:
    return {
        "operation": action.operation,
        "verb": action.verb.value,
        "reason": action.reason,
        "flow_run": action.run or None,
    }
