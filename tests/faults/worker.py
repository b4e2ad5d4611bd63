"""A worker without an orchestrator: the conductor's decisions, the steps' retry policies, and the faults put into it.

It runs in this process or, when it is to be killed, in one of its own. What Prefect adds is tested end to end.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from levier import bootstrap
from levier.domain.errors import Busy, LeaseLost, LevierError, MalformedReply
from levier.domain.operation import JsonMap, Settlement
from levier.saga.conductor import Conductor
from levier.saga.recovery import RunState, plan_recovery
from levier.saga.step import Step, Undo, should_retry
from levier.services.components.installed import installed_components
from levier.services.registry import Services
from levier.services.settings import Settings
from levier.services.steps.registered import all_steps
from levier.supervisor.lineage import enter_network_namespace
from tests.integration.saga_faults import DeadlyLog, Faulty, Injected, InjectedUnknown, Kill, failing_undo
from tests.rig.direct_hands import DirectHands

PROCESS_S = 240.0
FENCED = 42
"""Exit status of a worker process that ended by LeaseLost."""


@dataclass(frozen=True, slots=True)
class Deadly:
    """The process is killed around one event of one step."""

    step: str
    kill: Kill


@dataclass(frozen=True, slots=True)
class Failing:
    """A step's `do` (or its undo) fails `times` times, before or after its real work."""

    step: str
    times: int
    after: bool
    undo: bool = False
    retryable: bool = False
    """The error is one after which the step's policy grants another attempt, if there is such an error."""
    repeat: bool = False
    """It is called once more after each success, as by a worker that took over without knowing of it."""


Fault = Deadly | Failing


def services_with(settings: Settings, faults: Sequence[Fault] = ()) -> Services:
    """This installation's services with the faults in their steps or in their log."""
    deadly = [f for f in faults if isinstance(f, Deadly)]
    open_log = (lambda url: DeadlyLog(url, deadly[0].step, deadly[0].kill)) if deadly else None
    return bootstrap.wire(settings, steps=_steps([f for f in faults if isinstance(f, Failing)]), open_log=open_log)


def _steps(faults: Iterable[Failing]) -> tuple[Step[Any], ...]:
    steps: dict[str, Step[Any]] = {each.name: each for each in all_steps(installed_components())}
    for fault in faults:
        steps[fault.step] = _failing(steps[fault.step], fault)
    return tuple(steps.values())


def _failing(step: Step[Any], fault: Failing) -> Step[Any]:
    if fault.undo:
        assert not isinstance(step.undo, Undo), f"{step.name} has no undo that could fail"
        if fault.repeat:
            return replace(step, undo=_Repeated(step.undo))
        return failing_undo(step, times=fault.times, after=fault.after)[0]
    if fault.repeat:
        return replace(step, do=_Repeated(step.do))
    return replace(step, do=Faulty(step.do, _error(step, fault), fault.times, fault.after))


def _error(step: Step[Any], fault: Failing) -> type[LevierError]:
    if not fault.retryable:
        return InjectedUnknown if fault.after else Injected
    # Both leave the outcome open to the saga; which one a step may be repeated after is its own policy.
    candidates: tuple[type[LevierError], ...] = (InjectedUnknown, InjectedGarbled) if fault.after else (InjectedBusy,)
    return next(e for e in candidates if should_retry(step, e("injected", hint="a test"), 1) is not None)


class InjectedBusy(Busy):
    """A fault of the suite: it did not happen, and may later."""


class InjectedGarbled(MalformedReply):
    """A fault of the suite: it was answered in a way that nobody can read."""


@dataclass(frozen=True, slots=True)
class _Repeated:
    """Calls a function twice, as after a kill between the side effect and its commit."""

    call: Callable[..., JsonMap]

    def __call__(self, *args: Any) -> JsonMap:
        self.call(*args)
        return self.call(*args)


def order(services: Services, kind: str, nodes: Sequence[str]) -> str:
    """The operation is planned; its id."""
    return services.operations.plan(kind, nodes, {}, flow_run_id=str(uuid.uuid4()), who="fault suite")


def carry_out(services: Services, operation: str, *, parallel: int = 1) -> Settlement:
    """The operation has ended as far as it can be brought, on so many nodes at a time."""
    return _conducted(services, operation, lambda conductor: conductor.carry_out(), parallel=parallel)


def take_back(services: Services, operation: str) -> Settlement:
    """The operation is undone as far as that is possible."""
    return _conducted(services, operation, lambda conductor: conductor.take_back("rolled back on request"))


def recover(services: Services, operation: str) -> Settlement:
    """What recovery decides about an operation whose flow run has crashed was carried out."""
    status = services.operations.status(operation)
    runs = {status.run or status.operation.key: RunState.CRASHED}
    (action,) = plan_recovery([status], now=bootstrap.now(), runs=runs, code_version=status.operation.code_version)
    verbs = {"resume": carry_out, "unwind": take_back}
    return verbs[action.verb.value](services, operation)


def _conducted(services: Services, operation: str, how: Callable[[Conductor], Any], *, parallel: int = 1) -> Settlement:
    told: list[str] = []
    run = services.operations.take_over(operation, flow_run_id=str(uuid.uuid4()), tell=told.append)
    try:
        settlement: Settlement = asyncio.run(how(DirectHands(run, parallel).conductor))
        return settlement
    finally:
        run.close()


def in_a_process(
    settings: Settings, faults: Sequence[Fault], operation: str, *, back: bool, namespace: str = ""
) -> int | None:
    """The exit status of a process that carried the operation forward, or back: negative for the signal it died of.

    It works in that network namespace (ip-netns(8)), or in the one of the tests.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    child = context.Process(target=work, args=(settings, tuple(faults), operation, back, namespace))
    child.start()
    child.join(PROCESS_S)
    if child.is_alive():
        child.kill()
        child.join()
        raise AssertionError(f"the worker of {operation} did not end within {PROCESS_S:g} s")
    return child.exitcode


def work(settings: Settings, faults: tuple[Fault, ...], operation: str, back: bool, namespace: str = "") -> None:
    """A worker process: it carries the operation forward, or back, and exits with 0, or FENCED."""
    if namespace:
        enter_network_namespace(namespace)
    services = services_with(settings, faults)
    try:
        (take_back if back else carry_out)(services, operation)
    except LeaseLost:
        os._exit(FENCED)
    os._exit(0)
