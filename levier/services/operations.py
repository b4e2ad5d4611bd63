"""Operations as the API, the command line and the flows order and see them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from levier.domain.errors import Conflict, InvalidRequest
from levier.domain.node import NodeState
from levier.domain.operation import SETTLED, OperationState, OperationStatus, PlannedStep
from levier.domain.site import Node, Site
from levier.saga.engine import Saga
from levier.saga.step import StepRegistry
from levier.services.context import NodeStep, OperationTerms
from levier.services.operation_run import OperationRun
from levier.services.operation_view import as_map
from levier.services.prefect_gateway import PrefectGateway
from levier.services.provisioning import Provisioning
from levier.services.sites import Sites
from levier.services.steps.record import DEPLOYABLE
from levier.services.steps.sequences import INSPECT_OUT_OF_BAND, SEQUENCES

WAVE_SIZE = 100


class Operations:
    """Orders, shows, cancels, resumes and recovers operations."""

    def __init__(
        self, *, saga: Saga, registry: StepRegistry, provisioning: Provisioning, sites: Sites, prefect: PrefectGateway
    ) -> None:
        self._saga = saga
        self._registry = registry
        self._provisioning = provisioning
        self._sites = sites
        self._prefect = prefect

    # --- ordering ---------------------------------------------------------------------------------------------------

    def start(self, kind: str, nodes: Sequence[str], options: dict[str, Any], *, who: str) -> dict[str, Any]:
        """The operation is planned and its flow run scheduled. Not safe to repeat: each call orders one more.

        Raises InvalidRequest, NotFound or Conflict, before anything is touched, when it cannot be.
        """
        self._targets(kind, nodes, options)
        flow_run = self._prefect.start(kind, {"nodes": list(nodes), **options})
        return self.show(self.plan(kind, nodes, options, flow_run_id=flow_run, who=who))

    def plan(self, kind: str, nodes: Sequence[str], options: dict[str, Any], *, flow_run_id: str, who: str) -> str:
        """The operation of this flow run is in the log; its id. Safe to repeat: a flow run has one operation."""
        existing = next((s for s in self._saga.statuses() if s.operation.key == flow_run_id), None)
        if existing is not None:
            return existing.id
        revision, targets = self._targets(kind, nodes, options)
        size = int(options.get("wave_size", WAVE_SIZE))
        sequence = _sequence(kind, options)
        plan = [
            PlannedStep(step.name, node.name, wave=index // size)
            for index, node in enumerate(targets)
            for step in sequence
        ]
        operation = self._saga.create(
            kind=kind,
            targets=[node.name for node in targets],
            plan=plan,
            parameters={"revision": revision, **options},
            requested_by=who,
            key=flow_run_id,
        )
        return operation.id

    def take_over(self, operation: str, *, flow_run_id: str) -> OperationRun:
        """This process is the operation's only worker, others are fenced off. Raises Conflict, IncompatibleVersion."""
        ordered = self._saga.status(operation, target="").operation
        revision = int(ordered.parameters["revision"])
        terms = OperationTerms(operation, ordered.kind, revision, self._sites.site(revision))
        return OperationRun(self._saga, self._registry, self._provisioning, terms, run=flow_run_id)

    # --- showing ----------------------------------------------------------------------------------------------------

    def show(self, operation: str, *, flow_run: str | None = None) -> dict[str, Any]:
        """The operation with every step. Raises NotFound.

        With `flow_run`, `pending` says whether that flow run still has something to do: one that was only just
        scheduled has left no trace in the operation yet.
        """
        status = self._saga.status(operation)
        pending = flow_run is not None and not self._prefect.state(flow_run).terminal
        return as_map(status, steps=True) | {"ui": self._ui(status), "pending": pending}

    def all(self) -> list[dict[str, Any]]:
        """All operations without their steps, oldest first."""
        return [as_map(status, steps=False) for status in reversed(self._saga.statuses())]

    def _ui(self, status: OperationStatus) -> str:
        return f"{self._prefect.ui_url}/runs/flow-run/{status.run or status.operation.key}"

    # --- steering ---------------------------------------------------------------------------------------------------

    def cancel(self, operation: str, *, who: str) -> dict[str, Any]:
        """The operation stops at its next safe point and is undone. Safe to repeat. Raises Conflict once it ended."""
        self._saga.request_cancel(operation, who=who, reason="cancelled by the operator")
        status = self._saga.status(operation)
        run = self._prefect.state(status.run or status.operation.key)
        # Without a worker that could see the request, the undo is a flow run of its own.
        flow_run = self._start_rollback(operation) if run.terminal else run.flow_run_id
        return self._scheduled(operation, flow_run)

    def resume(self, operation: str, *, who: str) -> dict[str, Any]:
        """The operation goes on at its open steps, under its own flow run. Safe to repeat. Raises Conflict."""
        status = self._saga.status(operation)
        if status.state in (OperationState.SUCCEEDED, OperationState.ROLLED_BACK, OperationState.CANCELLED):
            raise Conflict(f"operation {operation} is {status.state}: there is nothing to resume")
        run = self._prefect.state(status.operation.key)
        if run.terminal:
            self._prefect.retry(status.operation.key)
        return self._scheduled(operation, status.operation.key)

    def rollback(self, operation: str, *, who: str) -> dict[str, Any]:
        """The operation is being undone by a flow run of its own. Safe to repeat. Raises Conflict while it runs."""
        status = self._saga.status(operation)
        if status.state in (OperationState.ROLLED_BACK, OperationState.CANCELLED):
            raise Conflict(f"operation {operation} is {status.state} already: nothing of it stands")
        if status.state not in SETTLED and status.state is not OperationState.UNWINDING:
            raise Conflict(f"operation {operation} is {status.state}", hint=f"levier operation cancel {operation}")
        self._refuse_taken_nodes(status)
        return self._scheduled(operation, self._start_rollback(operation))

    def recover(self) -> dict[str, Any]:
        """A recovery is scheduled; the id of its flow run. Safe to repeat."""
        return {"flow_run_id": self._prefect.start("recover", {})}

    def _start_rollback(self, operation: str) -> str:
        """A flow run that undoes the operation is scheduled; its id. Safe to repeat until the operation moves on."""
        status = self._saga.status(operation, target="")
        key = f"rollback-{operation}-{status.last_seq}"
        return self._prefect.start("rollback", {"operation": operation}, idempotency_key=key)

    def _scheduled(self, operation: str, flow_run: str) -> dict[str, Any]:
        return self.show(operation, flow_run=flow_run) | {"flow_run": flow_run}

    def _refuse_taken_nodes(self, status: OperationStatus) -> None:
        """Undoing a host that another operation holds, or that carries load by now, is not what `rollback` means."""
        for record in self._provisioning.nodes.list():
            if record.name not in status.operation.targets:
                continue
            if record.operation and record.operation != status.id:
                raise _held(record.name, record.operation)
            if record.state in (NodeState.IN_SERVICE, NodeState.DRAINING):
                raise Conflict(f"node {record.name} is {record.state} by now", hint="drain and retire it instead")

    # --- checking what is asked for ---------------------------------------------------------------------------------

    def _targets(self, kind: str, names: Sequence[str], options: dict[str, Any]) -> tuple[int, list[Node]]:
        """The nodes asked for, each found fit for the operation. Touches nothing."""
        if kind not in SEQUENCES:
            raise InvalidRequest(f"there is no operation {kind!r}", hint=f"choose one of: {', '.join(SEQUENCES)}")
        if len(set(names)) != len(names):
            raise InvalidRequest("a node is named twice", hint="name each node once")
        revision, site = self._sites.current()
        fit = {r.name: r for r in self._provisioning.nodes.list()}
        wanted = [site.node(name) for name in names] or [
            n for n in site.nodes if fit[n.name].state in DEPLOYABLE and not fit[n.name].operation
        ]
        if not wanted:
            raise InvalidRequest(f"there is no node left to {kind}", hint="levier node list shows their states")
        for node in wanted:
            self._check_fit(kind, site, node, disturbs=kind == "expand" or bool(options.get("in_band", True)))
        return revision, wanted

    def _check_fit(self, kind: str, site: Site, node: Node, *, disturbs: bool) -> None:
        record = self._provisioning.nodes.get(node.name)
        if record.operation:
            raise _held(node.name, record.operation)
        if record.maintenance or record.locked:
            raise Conflict(f"node {node.name} is {'locked' if record.locked else 'in maintenance'}")
        if disturbs and record.state not in DEPLOYABLE:
            hint = "roll back the operation that deployed it first" if kind == "expand" else "use --no-in-band"
            raise Conflict(f"node {node.name} is {record.state}: {kind} would interrupt it", hint=hint)
        self._provisioning.credentials(node)
        if kind == "expand":
            self._provisioning.image_for(site, node)


def _held(node: str, operation: str) -> Conflict:
    return Conflict(
        f"node {node} is held by operation {operation}",
        hint=f"watch it with `levier operation watch {operation}`, or cancel it",
    )


def _sequence(kind: str, options: dict[str, Any]) -> Iterable[NodeStep]:
    if kind == "inspect" and not options.get("in_band", True):
        return INSPECT_OUT_OF_BAND
    return SEQUENCES[kind]
