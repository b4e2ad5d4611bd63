"""Every step of this installation: those of nodes, and those of each component that there is."""

from __future__ import annotations

from collections.abc import Iterator

from levier.domain.component import Component
from levier.domain.component_placement import Components
from levier.services.context import NodeStep
from levier.services.steps import cloud, installation, smoke
from levier.services.steps.component import component_steps
from levier.services.steps.sequences import STEPS
from levier.services.steps.stores import store_steps


def all_steps(components: Components) -> tuple[NodeStep, ...]:
    """What an operation may consist of, by whatever plan. Names are unique, or the registry refuses them."""
    own: tuple[NodeStep, ...] = (
        installation.reach_host,
        installation.package_sources,
        installation.install_packages,
        installation.unpack_bundle,
        cloud.access,
        cloud.registered,
        cloud.takes_work,
        cloud.zones,
        installation.mark_in_service,
    )
    return (
        *STEPS.values(),
        *own,
        *smoke.STEPS,
        *(each for name in sorted(components) for each in _of(components[name])),
    )


def _of(component: Component) -> Iterator[NodeStep]:
    yield from component_steps(component)
    yield from store_steps(component)
    if component.catalog:
        yield cloud.catalog(component)
