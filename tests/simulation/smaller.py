"""A broken history made small: whatever can be left out of its scenario with the same promise broken is left out.

Hypothesis shrinks first; it stops after so many successes, and leaves what has nothing to do with the matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from tests.simulation.scenario import IRREVERSIBLE, SEQUENCE, Scenario


def smallest(scenario: Scenario, breaks: Callable[[Scenario], bool], *, tries: int = 2000) -> Scenario:
    """A scenario that still `breaks`, of which nothing more can be taken away one by one."""
    changed = True
    while changed and tries > 0:
        changed = False
        for smaller in _smaller(scenario):
            tries -= 1
            if breaks(smaller):
                scenario, changed = smaller, True
                break
    return scenario


def _smaller(scenario: Scenario) -> Iterator[Scenario]:
    for name in ("faults", "outages", "interruptions", "cancels", "recoveries", "verdicts", "orders"):
        items = getattr(scenario, name)
        for index in range(len(items)):
            if name != "orders" or len(items) > 1:
                yield _with(scenario, name, items[:index] + items[index + 1 :])
    yield from _simpler_choices(scenario)
    yield from _simpler_orders(scenario)
    if scenario.powered:
        yield replace(scenario, powered=frozenset())
    if scenario.addresses < 100:
        yield replace(scenario, addresses=100)
    needed = max(order.last for order in scenario.orders) + 1
    if needed < scenario.nodes:
        yield replace(scenario, nodes=needed)


def _with(scenario: Scenario, name: str, value: object) -> Scenario:
    changes: dict[str, Any] = {name: value}
    return replace(scenario, **changes)


def _simpler_choices(scenario: Scenario) -> Iterator[Scenario]:
    choices = scenario.choices
    if choices:
        yield replace(scenario, choices=())
        yield replace(scenario, choices=choices[: len(choices) // 2])
        yield replace(scenario, choices=choices[:-1])
    for index, choice in enumerate(choices):
        if choice:
            yield replace(scenario, choices=(*choices[:index], 0, *choices[index + 1 :]))


def _simpler_orders(scenario: Scenario) -> Iterator[Scenario]:
    for index, order in enumerate(scenario.orders):
        simpler = []
        if order.first < order.last:
            simpler += [replace(order, last=order.last - 1), replace(order, first=order.first + 1)]
        if IRREVERSIBLE in order.steps:
            simpler.append(replace(order, steps=order.steps - {IRREVERSIBLE}))
        missing = [name for name in SEQUENCE if name not in order.steps and name != IRREVERSIBLE]
        simpler += [replace(order, steps=order.steps | {name}) for name in missing]
        if order.parallel != 20 or order.wave_size != 100:
            simpler.append(replace(order, parallel=20, wave_size=100))
        for each in simpler:
            yield replace(scenario, orders=(*scenario.orders[:index], each, *scenario.orders[index + 1 :]))
