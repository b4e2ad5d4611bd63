"""One history: a scenario played from its orders to the rest that follows when the faults stop."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from levier.domain.errors import Conflict, LeaseLost, LevierError
from levier.domain.operation import SETTLED, STUCK, Operation, OperationState, PlannedStep
from levier.saga.engine import Saga
from levier.saga.log import StepLog
from levier.saga.recovery import RunState
from levier.saga.step import Step
from levier.saga.verbs import Verbs
from levier.services.prefect_gateway import PrefectGateway
from levier.services.recovery import Recovery
from levier.services.rollback_run import start_rollback
from tests.simulation.invariants import check_rest, check_takeover
from tests.simulation.kernel import Kernel, Process, Violation
from tests.simulation.memory_log import MemoryLog
from tests.simulation.orchestrator import Orchestrator, Run
from tests.simulation.scenario import SEQUENCE, Blow, Order, Scenario
from tests.simulation.steps import Context, registry, steps
from tests.simulation.store import Store
from tests.simulation.worker import Surroundings, Worker
from tests.simulation.world import World

VERSION = "1.0.0"
RECOVERY_S = 60.0
STOPPED_S = 200.0
LIMIT_S = 6 * 3600.0


@dataclass(frozen=True)
class Product:
    """The code under test; a mutation replaces a part of it."""

    saga: Callable[[StepLog, Any, str], Saga] = Saga
    log: Callable[[], MemoryLog] = MemoryLog
    steps: Callable[[], dict[str, Step[Context]]] = steps


class History:
    """Plays a scenario. `play` raises Violation, with the trace in its notes, when a promise is broken."""

    def __init__(self, scenario: Scenario, product: Product = Product()) -> None:
        choices = itertools.chain(scenario.choices, itertools.repeat(0))
        self.kernel = Kernel(lambda n: next(choices) % n)
        self.scenario = scenario
        self.log = product.log()
        self.store = Store(self.kernel, self.log, scenario.outages)
        self.world = World(self.kernel, self.log, scenario)
        self.steps = product.steps()
        self.registry = registry(self.steps)
        self.workers: list[Worker] = []
        self._make_saga = product.saga
        self.prefect = Orchestrator(self.kernel, self._launch)
        self.around = Surroundings(self.kernel, self.store, self.world, self.registry, self._saga, self._runs)
        self.prefect.before_retry = lambda run: check_takeover(self, run)
        self._numbers = itertools.count(1)
        self._points = 0
        self._blows: list[str] = []
        self._operator = Process("operator")
        self._parallel: dict[str, int] = {}
        self.kernel.at_point = self._interfere

    def _saga(self, process: Process) -> Saga:
        return self._make_saga(self.store.log_for(process), self.kernel.clock, VERSION)

    @property
    def happened(self) -> list[str]:
        """The faults, outages and interruptions that took place."""
        return self.world.happened + self.store.happened + self._blows

    def _runs(self, run: str) -> bool:
        return self.prefect.run_state(run) is RunState.RUNNING

    # --- playing ----------------------------------------------------------------------------------------------------

    def play(self) -> None:
        """Everything happened and came to rest; every promise held."""
        try:
            for order in self.scenario.orders:
                self.kernel.thread(self._operator, self._order, order)
            self.kernel.thread(Process("recovery"), self._recover_for_ever)
            self.kernel.run_until(self._settled, limit_s=LIMIT_S)
            for verdict in self.scenario.verdicts:
                self.kernel.thread(self._operator, self._decide, verdict)
                self.kernel.run_until(self._settled, limit_s=LIMIT_S)
            check_rest(self)
        except Violation as violation:
            violation.add_note("\n".join(["", *self.kernel.trace]))
            raise

    def _settled(self) -> bool:
        """Nobody has anything to do, and nothing is under way but heart beats."""
        runs = [run for run in self.prefect.runs.values() if not run.forgotten]
        if any(run.state in (RunState.WAITING, RunState.RUNNING) for run in runs):
            return False
        if any(t.process is self._operator for t in self.kernel.threads):
            return False
        if any(w.process.alive and not w.process.ended for w in self.workers):
            return False
        return all(record.state in SETTLED for record in self.log.records.values())

    def _order(self, order: Order) -> None:
        self.kernel.sleep(order.after_s)
        targets = [f"n{number}" for number in range(order.first, order.last + 1)]
        plan = _staged(order, targets) if order.stages else _by_waves(order, targets)
        pillars = targets[: order.pillars] if order.stages else []
        number = next(self._numbers)
        run = self.prefect.new_id()
        operation = self.log.create(
            Operation(
                f"expand-{number}",
                "expand",
                tuple(targets),
                tuple(plan),
                self.kernel.clock(),
                VERSION,
                parameters={"pillars": pillars},
                key=run,
            )
        )
        self._parallel[operation.id] = order.parallel
        self.prefect.schedule("expand", operation.id, run_id=run)

    def _launch(self, run: Run) -> Process:
        process = Process(f"worker-{len(self.workers) + 1}")
        parallel = self._parallel[run.operation]
        worker = Worker(self.around, process, operation=run.operation, run=run.id, kind=run.kind, parallel=parallel)
        self.workers.append(worker)
        self.kernel.start(process, self._work(worker, run))
        return process

    async def _work(self, worker: Worker, run: Run) -> None:
        end: RunState | None
        try:
            good = await worker.main()
            end = None if good is None else RunState.COMPLETED if good else RunState.FAILED
        except Conflict as error:  # from here on as flows/life_cycle.py does
            self.kernel.tell(worker.process.name, f"{type(error).__name__}: {error}")
            end = RunState.COMPLETED if await worker.over() else RunState.FAILED
        except LeaseLost as error:
            self.kernel.tell(worker.process.name, f"{type(error).__name__}: {error}")
            end = None if await worker.superseded() else RunState.FAILED
        except Exception as error:  # noqa: BLE001 - as Prefect's engine does
            self.kernel.tell(worker.process.name, f"{type(error).__name__}: {error}")
            end = RunState.FAILED
        worker.process.ended = True
        if end is None:
            return
        self.prefect.report(run, end)

    # --- interfering ------------------------------------------------------------------------------------------------

    def _interfere(self, process: Process, label: str) -> None:
        worker = next((w for w in self.workers if w.process is process), None)
        if worker is None:
            return
        at, self._points = self._points, self._points + 1
        for point in self.scenario.cancels:
            if point == at:
                self.kernel.thread(self._operator, self._cancel, worker.operation)
        if at in self.scenario.recoveries:
            self.kernel.thread(self._operator, self._recover)
        for interruption in self.scenario.interruptions:
            if interruption.point == at:
                self._strike(worker, interruption.blow, label)

    def _strike(self, worker: Worker, blow: Blow, label: str) -> None:
        self._blows.append(blow.value)
        run = next(r for r in self.prefect.runs.values() if worker.process in r.processes)
        if blow is Blow.STOP:
            self.kernel.halt(worker.process, STOPPED_S)
        elif blow is Blow.UI_CANCEL:
            self.prefect.cancel(run)
        else:
            self.kernel.kill(worker.process, label)
            self.prefect.killed(run, worker.process, blow)

    # --- people -----------------------------------------------------------------------------------------------------

    def _cancel(self, operation: str) -> None:
        """As `levier operation cancel`."""
        saga = self._saga(self._operator)
        try:
            saga.request_cancel(operation, "ann", "wrong rack")
            self.kernel.tell("ann", f"cancels {operation}")
            status = saga.status(operation)
            if self.prefect.run_state(status.run or status.operation.key).ended:
                start_rollback(cast(PrefectGateway, self.prefect), status)
        except LevierError as error:
            self.kernel.tell("ann", f"cancel: {error}")

    def _decide(self, verdict: str) -> None:
        """As an operator's verb on the first operation that it is for, if there is one."""
        wanted = {OperationState.SUCCEEDED} if verdict == "regret" else STUCK
        operation = next((name for name, record in self.log.records.items() if record.state in wanted), None)
        if operation is None:
            return
        self.kernel.tell("ann", f"decides: {verdict} {operation}")
        try:
            getattr(self, f"_decide_{verdict}")(operation)
        except LevierError as error:
            self.kernel.tell("ann", f"{verdict}: {error}")

    def _verbs(self) -> Verbs:
        process = self._operator
        return Verbs(self.store.log_for(process), self.store.verbs_for(process), self.registry, clock=self.kernel.clock)

    def _decide_repair(self, _operation: str) -> None:
        self.world.healthy = self.store.healthy = True

    def _decide_resume(self, operation: str) -> None:
        self._verbs().resume(operation, who="ann", reason="repaired")
        self.prefect.retry(self.log.records[operation].operation.key)

    def _decide_rollback(self, operation: str) -> None:
        start_rollback(cast(PrefectGateway, self.prefect), self._saga(self._operator).status(operation))

    def _decide_regret(self, operation: str) -> None:
        self._decide_rollback(operation)

    def _decide_skip(self, operation: str) -> None:
        verbs = self._verbs()
        for step in self._saga(self._operator).status(operation).steps:
            try:
                verbs.skip(operation, step.step, target=step.target, who="ann", reason="seen to by hand")
                return
            except LevierError:
                continue

    def _decide_abandon(self, operation: str) -> None:
        self._verbs().abandon(operation, who="ann", reason="taken out of the rack")

    # --- recovery ---------------------------------------------------------------------------------------------------

    def _recover_for_ever(self) -> None:
        while True:
            self.kernel.sleep(RECOVERY_S)
            self._recover()

    def _recover(self) -> None:
        prefect = cast(PrefectGateway, self.prefect)
        recovery = Recovery(
            self._saga(self._operator), self._verbs(), prefect, clock=self.kernel.clock, code_version=VERSION
        )
        try:
            actions = recovery.plan()
            for done in recovery.execute(actions):
                if done["verb"] != "leave":
                    self.kernel.tell(
                        "recovery", f"{done['verb']} {done['operation']}: {done['reason']}; {done['done']}"
                    )
        except LevierError as error:
            self.kernel.tell("recovery", f"{error}")


def _by_waves(order: Order, targets: list[str]) -> list[PlannedStep]:
    """As expand plans: each node goes through all steps, in its wave."""
    steps = [name for name in SEQUENCE if name in order.steps]
    return [PlannedStep(s, t, wave=index // order.wave_size) for index, t in enumerate(targets) for s in steps]


def _staged(order: Order, targets: list[str]) -> list[PlannedStep]:
    """As install plans: some steps on all nodes, then the next ones on all nodes."""
    steps = [name for name in SEQUENCE if name in order.steps]
    return [PlannedStep(s, t, wave=at * order.stages // len(steps)) for at, s in enumerate(steps) for t in targets]
