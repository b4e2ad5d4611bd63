"""Recovery: the pure plan of the saga, carried out with Prefect's flow runs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import structlog

from levier.domain.errors import Conflict, NotFound
from levier.domain.operation import SETTLED, OperationState
from levier.saga.engine import Saga
from levier.saga.recovery import RecoveryAction, RecoveryVerb, RunState, plan_recovery
from levier.services.prefect_gateway import PrefectGateway

log = structlog.get_logger()

_RUN_STATES = {
    "SCHEDULED": RunState.WAITING,
    "PENDING": RunState.WAITING,
    "PAUSED": RunState.WAITING,
    "RUNNING": RunState.RUNNING,
    "CANCELLING": RunState.RUNNING,
    "COMPLETED": RunState.COMPLETED,
    "FAILED": RunState.FAILED,
    "CRASHED": RunState.CRASHED,
    "CANCELLED": RunState.CANCELLED,
}


class Recovery:
    """Compares the log of operations with Prefect's flow runs and brings them together again."""

    def __init__(
        self, saga: Saga, prefect: PrefectGateway, *, clock: Callable[[], datetime], code_version: str
    ) -> None:
        self._saga = saga
        self._prefect = prefect
        self._clock = clock
        self._code_version = code_version

    def plan(self) -> tuple[RecoveryAction, ...]:
        """What there is to do about operations that nobody works on. Touches nothing; safe to repeat."""
        open_states = set(OperationState) - set(SETTLED)
        statuses = self._saga.statuses(states=open_states)
        runs = {run: self._run_state(run) for status in statuses if (run := status.run or status.operation.key)}
        return plan_recovery(statuses, now=self._clock(), runs=runs, code_version=self._code_version)

    def execute(self, actions: tuple[RecoveryAction, ...]) -> None:
        """Every action is carried out or under way. Safe to repeat: a flow run that waits is left alone."""
        for action in actions:
            if action.verb is RecoveryVerb.LEAVE:
                continue
            log.warning("recovery", operation=action.operation, verb=action.verb.value, reason=action.reason)
            if action.verb is RecoveryVerb.RESUME:
                self._prefect.retry(action.run)
            elif action.verb is RecoveryVerb.UNWIND:
                self._unwind(action)
            elif action.verb is RecoveryVerb.ESCALATE:
                self._escalate(action)

    def _unwind(self, action: RecoveryAction) -> None:
        if self._saga.cancel_requested(action.operation) is False and "cancelled" in action.reason:
            self._saga.request_cancel(action.operation, who="Prefect", reason=action.reason)
        last = self._saga.status(action.operation, target="").last_seq
        key = f"rollback-{action.operation}-{last}"
        self._prefect.start("rollback", {"operation": action.operation}, idempotency_key=key)

    def _escalate(self, action: RecoveryAction) -> None:
        fence = self._saga.begin(action.operation, worker="recovery")
        try:
            self._saga.set_state(fence, OperationState.NEEDS_OPERATOR, {"reason": action.reason})
        except Conflict as error:
            log.error("cannot escalate", operation=action.operation, error=str(error))

    def _run_state(self, run: str) -> RunState:
        try:
            return _RUN_STATES.get(self._prefect.state(run).kind, RunState.MISSING)
        except NotFound:
            return RunState.MISSING
