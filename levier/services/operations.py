"""Operations as the API, the command line and the flows order and see them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog

from levier.domain.audit import PREFECT, OrderVerb
from levier.domain.errors import Conflict, DriverError, IncompatibleVersion, InvalidRequest
from levier.domain.install_plan import pillars, planned
from levier.domain.node import require_operable
from levier.domain.node_record import NodeRecord
from levier.domain.operation import FINAL, SETTLED, OperationState, OperationStatus, PlannedStep, Settlement
from levier.domain.site import Node, Site
from levier.domain.step_estimates import learnt
from levier.saga.engine import Saga
from levier.saga.recovery import MAX_TAKEOVERS, RunState
from levier.saga.step import StepRegistry
from levier.saga.store_patience import StorePatience
from levier.saga.verbs import Verbs, ways_out
from levier.services.context import NodeStep, OperationTerms
from levier.services.installation import Installation
from levier.services.operation_run import OperationRun
from levier.services.operation_view import as_map
from levier.services.prefect_gateway import PrefectGateway
from levier.services.provisioning import Provisioning
from levier.services.sites import Sites
from levier.services.steps.record import DEPLOYABLE
from levier.services.steps.sequences import INSPECT_OUT_OF_BAND, SEQUENCES

WAVE_SIZE = 100
_LEARN_FROM = 20
"""Operations whose durations count for estimates."""
INSTALL = "install"
KINDS = (*SEQUENCES, INSTALL)
log = structlog.get_logger()


class Operations:
    """Orders, shows and takes over operations."""

    def __init__(
        self,
        *,
        saga: Saga,
        verbs: Verbs,
        registry: StepRegistry,
        provisioning: Provisioning,
        installation: Installation,
        sites: Sites,
        prefect: PrefectGateway,
    ) -> None:
        self._saga = saga
        self._verbs = verbs
        self._registry = registry
        self._provisioning = provisioning
        self._installation = installation
        self._sites = sites
        self._prefect = prefect

    # --- ordering ---------------------------------------------------------------------------------------------------

    def start(self, kind: str, nodes: Sequence[str], options: dict[str, Any], *, who: str) -> dict[str, Any]:
        """The operation is planned and its flow run scheduled. Not safe to repeat: each call orders one more.

        Raises InvalidRequest, NotFound or Conflict, before anything is touched, when it cannot be.
        """
        self._targets(kind, nodes, options)
        flow_run = self._prefect.start(kind, options if kind == INSTALL else {"nodes": list(nodes), **options})
        return self.show(self.plan(kind, nodes, options, flow_run_id=flow_run, who=who))

    def preview(self, *, parallel: int) -> list[dict[str, Any]]:
        """The stages of an installation as it would be now: `stage`, `steps`, `estimate_s`. Touches nothing."""
        revision, targets = self._targets(INSTALL, (), {})
        estimates = learnt(self._saga.statuses(states=[OperationState.SUCCEEDED], limit=_LEARN_FROM))
        return self._installation.preview(self._sites.site(revision), targets, estimates, parallel=parallel)

    def plan(self, kind: str, nodes: Sequence[str], options: dict[str, Any], *, flow_run_id: str, who: str) -> str:
        """The operation of this flow run is in the log; its id. Safe to repeat: a flow run has one operation."""
        existing = self._verbs.find(flow_run_id)
        if existing is not None:
            return existing
        revision, targets = self._targets(kind, nodes, options)
        plan, fixed = self._planned(kind, revision, targets, options)
        operation = self._saga.create(
            kind=kind,
            targets=[node.name for node in targets],
            plan=plan,
            parameters={"revision": revision, **options, **fixed},
            requested_by=who,
            key=flow_run_id,
        )
        return operation.id

    def _planned(
        self, kind: str, revision: int, targets: Sequence[Node], options: dict[str, Any]
    ) -> tuple[Sequence[PlannedStep], dict[str, Any]]:
        """The steps in order, and what else is fixed with them."""
        if kind == INSTALL:
            site = self._sites.site(revision)
            stages = self._installation.stages(site, targets)
            return planned(stages), {"pillars": sorted(pillars(site, self._installation.components))}
        size = int(options.get("wave_size", WAVE_SIZE))
        sequence = _sequence(kind, options)
        return [
            PlannedStep(step.name, node.name, wave=index // size)
            for index, node in enumerate(targets)
            for step in sequence
        ], {}

    def runs(self, flow_run_id: str) -> bool:
        """Prefect says that the flow run runs, or says nothing now. Safe to repeat."""
        try:
            return self._prefect.run_state(flow_run_id) is RunState.RUNNING
        except DriverError as error:
            log.warning("cannot ask for the state of a flow run", flow_run=flow_run_id, error=str(error))
            return True

    def over(self, operation: str) -> Settlement | None:
        """How the operation ended for good; None when it did not. Safe to repeat. Raises NotFound."""
        return self._saga.over(operation)

    def take_over(self, operation: str, *, flow_run_id: str, tell: Callable[[str], None]) -> OperationRun:
        """This process is the operation's only worker, others are fenced off.

        `tell` gets what the person who follows the flow run should know: that the database is waited for.

        Raises IncompatibleVersion; Conflict when the operation is over, or was taken up too often without progress:
        then it needs an operator from now on.
        """
        terms = StorePatience(tell=tell).call(self._agree, operation, flow_run_id)
        return OperationRun(
            self._saga, self._verbs, self._registry, self._provisioning, terms, run=flow_run_id, tell=tell
        )

    def _agree(self, operation: str, flow_run_id: str) -> OperationTerms:
        """The operation may be taken up, and on these terms. Safe to repeat."""
        status = self._saga.status(operation)
        ordered = status.operation
        if status.state not in SETTLED and status.takeovers >= MAX_TAKEOVERS:
            reason = f"taken up {status.takeovers} times without progress"
            self._saga.hand_over(operation, reason)
            raise Conflict(f"operation {operation} was {reason}", hint=f"levier operation show {operation}")
        self._note_order_from_prefect(status, flow_run_id)
        revision = int(ordered.parameters["revision"])
        return OperationTerms(operation, ordered.kind, revision, self._sites.site(revision))

    def _note_order_from_prefect(self, status: OperationStatus, flow_run_id: str) -> None:
        """A run that somebody started in Prefect on an operation at rest is a decision like any other: it is noted."""
        if status.state not in SETTLED or status.state in FINAL or self._verbs.is_ordered(status.id):
            return
        verb = OrderVerb.RESUME if flow_run_id == status.operation.key else OrderVerb.ROLLBACK
        self._verbs.order(status.id, verb, who=PREFECT, reason="its flow run was started in Prefect", run=flow_run_id)

    def status(self, operation: str) -> OperationStatus:
        """The fold of the operation's log. Safe to repeat. Raises NotFound."""
        return self._saga.status(operation)

    # --- showing ----------------------------------------------------------------------------------------------------

    def show(self, operation: str, *, flow_run: str | None = None) -> dict[str, Any]:
        """The operation with every step. Raises NotFound.

        With `flow_run`, `pending` says whether that flow run still has something to do: one that was only just
        scheduled has left no trace in the operation yet.
        """
        status = self._saga.status(operation)
        pending = flow_run is not None and not self._prefect.state(flow_run).terminal
        return self._as_map(status, steps=True) | {"ui": self._ui(status), "pending": pending}

    def all(self) -> list[dict[str, Any]]:
        """All operations without their steps, oldest first."""
        return [self._as_map(status, steps=False) for status in reversed(self._saga.statuses())]

    def _as_map(self, status: OperationStatus, *, steps: bool) -> dict[str, Any]:
        return as_map(status, steps=steps) | {"blocked": self._blocked(status), "can_do": ways_out(status)}

    def _blocked(self, status: OperationStatus) -> str | None:
        """Why this version of Levier may not go on with the operation, and the way out; None when it may."""
        try:
            if status.state not in FINAL:
                self._saga.require_compatible(status)
        except IncompatibleVersion as error:
            return f"{error}: {error.hint}"
        return None

    def _ui(self, status: OperationStatus) -> str:
        return f"{self._prefect.ui_url}/runs/flow-run/{status.run or status.operation.key}"

    # --- checking what is asked for ---------------------------------------------------------------------------------

    def _targets(self, kind: str, names: Sequence[str], options: dict[str, Any]) -> tuple[int, list[Node]]:
        """The nodes asked for, each found fit for the operation. Touches nothing."""
        if kind not in KINDS:
            raise InvalidRequest(f"there is no operation {kind!r}", hint=f"choose one of: {', '.join(KINDS)}")
        if len(set(names)) != len(names):
            raise InvalidRequest("a node is named twice", hint="name each node once")
        revision, site = self._sites.current()
        if kind == INSTALL:
            return revision, self._installation.hosts(site, names, self._check_fit)
        fit = {r.name: r for r in self._provisioning.nodes.list()}
        wanted = [site.node(name) for name in names] or [
            n for n in site.nodes if fit[n.name].state in DEPLOYABLE and _free(fit[n.name])
        ]
        if not wanted:
            raise InvalidRequest(f"there is no node left to {kind}", hint="levier node list shows their states")
        for node in wanted:
            self._check_fit(kind, site, node, disturbs=kind == "expand" or bool(options.get("in_band", True)))
        return revision, wanted

    def _check_fit(self, kind: str, site: Site, node: Node, *, disturbs: bool) -> None:
        record = self._provisioning.nodes.get(node.name)
        if record.operation:
            raise held_by(node.name, record.operation)
        require_operable(node.name, record.flags)
        if disturbs and record.state not in DEPLOYABLE:
            hint = "roll back the operation that deployed it first" if kind == "expand" else "use --no-in-band"
            raise Conflict(f"node {node.name} is {record.state}: {kind} would interrupt it", hint=hint)
        self._provisioning.credentials(node)
        if kind == "expand":
            self._provisioning.image_for(site, node)


def _free(record: NodeRecord) -> bool:
    return not record.operation and not record.flags.words()


def held_by(node: str, operation: str) -> Conflict:
    """The error for a node that another operation holds, with the ways to see and to end that one."""
    return Conflict(
        f"node {node} is held by operation {operation}",
        hint=f"watch it with `levier operation watch {operation}`, or cancel it",
    )


def _sequence(kind: str, options: dict[str, Any]) -> Iterable[NodeStep]:
    if kind == "inspect" and not options.get("in_band", True):
        return INSPECT_OUT_OF_BAND
    return SEQUENCES[kind]
