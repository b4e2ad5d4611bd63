"""Kinds of steps of an installation, and the one step of each kind that meets every fault.

Steps that one factory makes of different components do the same in the same way: the faults meet one of them. A fixed
step is a kind of its own, so that whoever registers one gets its cases.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from levier.domain import install_plan
from levier.domain.component import Action, Component
from levier.domain.operation import PlannedStep
from levier.services.components.installed import installed_components
from levier.services.context import NodeStep
from levier.services.steps.registered import all_steps
from levier.services.steps.sequences import STEPS
from tests.faults.cases import FaultCase, faults_of
from tests.faults.installed.clouds import CloudLayout

INSTALL = "install"


@dataclass(frozen=True, slots=True)
class Place:
    """A step on a host, as an installation plans it."""

    planned: PlannedStep
    kind: str

    @property
    def step(self) -> str:
        return self.planned.step

    @property
    def host(self) -> str:
        return self.planned.target


@cache
def registered() -> Mapping[str, NodeStep]:
    """Every step there is, by name."""
    return {each.name: each for each in all_steps(installed_components())}


@cache
def kinds() -> Mapping[str, str]:
    """Step of an installation → its kind."""
    own = {name: name for name in registered() if name not in STEPS}
    for component in installed_components().values():
        own |= {name: kind for name, kind in _kinds_of(component) if name in own}
    return own


def _kinds_of(component: Component) -> Iterator[tuple[str, str]]:
    software = "a release" if component.software.bundle else "a package"
    yield install_plan.configure(component.name), f"configure, of {software}"
    yield install_plan.database(component.name), "database"
    yield install_plan.message_queue(component.name), "message queue"
    yield install_plan.catalog(component.name), "catalog"
    units = "units of its own" if any(unit.template for unit in component.units) else "units of a package"
    yield install_plan.start(component.name), f"start, {units}"
    for action in component.actions:
        yield install_plan.act(component.name, action.name), _kind_of_action(action)


def _kind_of_action(action: Action) -> str:
    asks = "looks first" if action.done_when is not None else "acts again"
    back = [*(["dump"] if action.dump_before else []), *(["undo of its own"] if action.undo is not None else [])]
    return f"action, {asks}, {' and '.join(back) or 'no undo'}"


def places(cloud: CloudLayout) -> tuple[Place, ...]:
    """One place for each kind of step of the installation, in the order of its plan: the one that costs least.

    Of components the one that is said in the fewest words; then the host with the fewest components.
    """
    plan = install_plan.planned(cloud.stages)
    cost = _Cost(cloud)
    cheapest: dict[str, PlannedStep] = {}
    for planned in (p for p in plan if p.step in kinds()):
        kind = kinds()[planned.step]
        if kind not in cheapest or cost.of(planned) < cost.of(cheapest[kind]):
            cheapest[kind] = planned
    found = [Place(planned, kind) for kind, planned in cheapest.items()]
    return tuple(sorted(found, key=lambda place: plan.index(place.planned)))


class _Cost:
    def __init__(self, cloud: CloudLayout) -> None:
        self._components = {
            name: len(component.model_dump_json())
            for component in installed_components().values()
            for name, _ in _kinds_of(component)
        }
        self._hosts: dict[str, int] = {}
        for planned in install_plan.planned(cloud.stages):
            self._hosts[planned.target] = self._hosts.get(planned.target, 0) + 1

    def of(self, planned: PlannedStep) -> tuple[int, int]:
        return self._components.get(planned.step, 0), self._hosts[planned.target]


def cases(place: Place) -> tuple[FaultCase, ...]:
    """Every fault at that place."""
    return tuple(faults_of(INSTALL, registered()[place.step]))


def places_beyond(cloud: CloudLayout, smaller: CloudLayout) -> tuple[Place, ...]:
    """The places for the kinds of steps that there are in this cloud and not in the smaller one."""
    known = {place.kind for place in places(smaller)}
    return tuple(place for place in places(cloud) if place.kind not in known)
