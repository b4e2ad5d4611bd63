"""Steering operations that exist: cancel, roll back, and the verbs on those that are stuck."""

from __future__ import annotations

from typing import Any

from levier.domain.audit import OrderVerb, required_reason
from levier.domain.errors import Conflict
from levier.domain.install_plan import IN_SERVICE
from levier.domain.node import NodeState
from levier.domain.operation import SETTLED, OperationState, OperationStatus
from levier.saga.engine import Saga
from levier.saga.verbs import Verbs, ways_out
from levier.services.operations import Operations, held_by
from levier.services.prefect_gateway import PrefectGateway
from levier.services.provisioning import Provisioning
from levier.services.rollback_run import start_rollback

OVER = (OperationState.ROLLED_BACK, OperationState.CANCELLED)


class Steering:
    """What a person orders about an operation. Every order is in the operation's log, with who and why."""

    def __init__(
        self, *, saga: Saga, verbs: Verbs, operations: Operations, provisioning: Provisioning, prefect: PrefectGateway
    ) -> None:
        self._saga = saga
        self._verbs = verbs
        self._operations = operations
        self._provisioning = provisioning
        self._prefect = prefect

    def audit(self, operation: str) -> list[dict[str, Any]]:
        """Who decided what about the operation, when and why, in order. Safe to repeat. Raises NotFound."""
        return [
            {"at": e.at.isoformat(), "what": e.what, "who": e.who, "why": e.why, "detail": e.detail}
            for e in self._verbs.audit(operation)
        ]

    def cancel(self, operation: str, *, who: str, reason: str = "") -> dict[str, Any]:
        """The operation stops at its next safe point and is undone. Safe to repeat, also when it is cancelled already.

        Raises NotFound; Conflict, naming what can be done, when it ended otherwise.
        """
        status = self._saga.status(operation)
        if status.state is OperationState.CANCELLED:
            return self._operations.show(operation) | {"flow_run": None}
        if status.state in SETTLED:
            raise Conflict(
                f"operation {operation} is {status.state}: there is nothing to cancel", hint=ways_out(status)
            )
        self._saga.request_cancel(operation, who, reason or "no reason given")
        run = status.run or status.operation.key
        if self._prefect.run_state(run).ended:
            # Without a worker that could see the request, the undo is a flow run of its own.
            run = self._undo(status)
        return self._scheduled(operation, run)

    def _undo(self, status: OperationStatus) -> str:
        """The operation is being undone, or called off if it never began; the flow run to watch."""
        if status.state in (OperationState.PLANNED, OperationState.AWAITING_APPROVAL):
            self._saga.call_off(status.id, "cancelled before it began")
            return status.operation.key
        return start_rollback(self._prefect, status)

    def rollback(self, operation: str, *, who: str, reason: str = "") -> dict[str, Any]:
        """The operation is being undone by a flow run of its own. Safe to repeat. Raises Conflict while it runs."""
        status = self._saga.status(operation)
        if status.state in OVER:
            left = "what stands was abandoned" if status.stands else "nothing of it stands"
            raise Conflict(f"operation {operation} is {status.state} already: {left}", hint=ways_out(status))
        if status.state not in SETTLED and status.state is not OperationState.UNWINDING:
            raise Conflict(f"operation {operation} is {status.state}", hint=f"levier operation cancel {operation}")
        self._refuse_taken_nodes(status)
        self._verbs.order(operation, OrderVerb.ROLLBACK, who=who, reason=reason)
        return self._scheduled(operation, start_rollback(self._prefect, status))

    def resume(self, operation: str, *, who: str, reason: str = "") -> dict[str, Any]:
        """The stuck operation goes on: `direction` says whether `forward`, or with the `unwinding` it was in.

        Safe to repeat while it is stuck. Raises Conflict, naming what can be done, when it is not.
        """
        status = self._verbs.check_stuck(operation, "resume")
        self._saga.require_compatible(status)
        direction = self._verbs.resume(operation, who=who, reason=reason)
        if direction == "forward":
            run = status.operation.key
            if self._prefect.run_state(run).ended:
                self._prefect.retry(run)
        else:
            run = start_rollback(self._prefect, status)
        return self._scheduled(operation, run) | {"direction": direction}

    def skip(self, operation: str, step: str, *, node: str | None, who: str, reason: str) -> dict[str, Any]:
        """The failed step counts as done, or its failed undo as given up; the operation stays stuck. Raises Conflict.

        `skipped` says in words what became of it, `direction` where a resume will go on.
        """
        chosen = self._verbs.skip(operation, step, target=node, who=who, reason=reason)
        after = self._saga.status(operation)
        now = after.step(chosen.step, chosen.target)
        became = "its undo is given up, it stands" if now.stands and not now.done else "it counts as done"
        direction = "unwinding" if after.goes_back else "forward"
        words = {"skipped": f"{chosen.step} on {chosen.target}: {became}", "direction": direction}
        return self._operations.show(operation) | words

    def abandon(self, operation: str, *, who: str, reason: str) -> dict[str, Any]:
        """The stuck operation is cancelled as it stands and holds no node; no machine is touched.

        Each node that is neither ready nor as before has a fault that says what stands on it, and takes no operation
        until somebody clears it. Safe to repeat until it is done. Raises InvalidRequest without a reason; Conflict.
        """
        why = required_reason(reason, verb="abandon")
        status = self._verbs.check_stuck(operation, "abandon")
        for node, steps in self._verbs.effects_left(status).items():
            if node in status.operation.targets:
                fault = f"{operation} was abandoned by {who}: {why}; stands: {', '.join(steps) or 'nothing'}"
                self._provisioning.nodes.set_flags(node, fault=fault)
        self._verbs.abandon(operation, who=who, reason=why)
        return self._operations.show(operation)

    def _scheduled(self, operation: str, flow_run: str) -> dict[str, Any]:
        return self._operations.show(operation, flow_run=flow_run) | {"flow_run": flow_run}

    def _refuse_taken_nodes(self, status: OperationStatus) -> None:
        """Undoing a host that another operation holds, or that carries load by now, is not what `rollback` means.

        An installation that put a host in service takes it out again; whether it carries load is looked at then.
        """
        own = {step.target for step in status.stands if step.step == IN_SERVICE}
        for record in self._provisioning.nodes.list():
            if record.name not in status.operation.targets:
                continue
            if record.operation and record.operation != status.id:
                raise held_by(record.name, record.operation)
            if record.state is NodeState.IN_SERVICE and record.name in own:
                continue
            if record.state in (NodeState.IN_SERVICE, NodeState.DRAINING):
                raise Conflict(f"node {record.name} is {record.state} by now", hint="drain and retire it instead")
