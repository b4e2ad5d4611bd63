"""Which host runs which components, and what must serve before what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from levier.domain.component import Companion, Component
from levier.domain.component_settings import effective_settings
from levier.domain.errors import InvalidRequest, NotFound
from levier.domain.problems import closest
from levier.domain.site import Node, Site

Components = Mapping[str, Component]
"""All components there are, by name."""

_SHOWN = 5


def components_of(site: Site, node: Node, components: Components) -> tuple[Component, ...]:
    """The components of the node's roles in dependency order, each once.

    A role's are those that name it, or exactly the ones the site file lists for it, with `also` and less `without`.
    Raises NotFound for a component that does not exist. Pure.
    """
    names: set[str] = set()
    for role in node.roles:
        spec = site.role(role)
        own = {each.name for each in components.values() if role in each.roles}
        names |= ((own if spec.components is None else set(spec.components)) | set(spec.also)) - set(spec.without)
    return dependency_order(component_named(components, name) for name in names)


def dependency_order(components: Iterable[Component]) -> tuple[Component, ...]:
    """Those given, each after what it needs of them; else by name. Raises InvalidRequest for a circle. Pure."""
    by_name = {each.name: each for each in components}
    wanted = {name: {*each.needs, *each.beside, *each.after} & by_name.keys() for name, each in by_name.items()}
    sorter = TopologicalSorter(wanted)
    try:
        sorter.prepare()
    except CycleError as error:
        circle = " → ".join(error.args[1])
        raise InvalidRequest(
            f"components need each other in a circle: {circle}", hint="take one of the needs: out of its component.yaml"
        ) from error
    ordered: list[Component] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        ordered += [by_name[name] for name in ready]
        sorter.done(*ready)
    return tuple(ordered)


def component_named(components: Components, name: str) -> Component:
    """The component of that name. Raises NotFound with the closest name."""
    if name in components:
        return components[name]
    match = closest(name, components)
    hint = f"did you mean {match!r}?" if match else "see the names: levier component list"
    raise NotFound(f"there is no component named {name!r}", hint=hint)


def missing_needs(site: Site, components: Components) -> tuple[str, ...]:
    """One sentence for each need that no host of the site meets, or not the host itself; empty without any. Pure.

    A component's companions are such needs too, and so is to be on no second host.
    """
    placed = {node.name: {each.name: each for each in components_of(site, node, components)} for node in site.nodes}
    anywhere = {name for own in placed.values() for name in own}
    sentences: set[str] = set()
    for host, own in placed.items():
        for component in own.values():
            nowhere = set(component.needs) - anywhere
            sentences |= {f"{component.name} needs {need}, which no host runs" for need in nowhere}
            sentences |= {f"{component.name} needs {need} on {host} too" for need in set(component.beside) - own.keys()}
    return (*sorted(sentences), *_more_than_one(placed), *dict.fromkeys(_companions_missing(site, placed)))


def _more_than_one(placed: Mapping[str, Mapping[str, Component]]) -> Iterator[str]:
    components = {name: component for own in placed.values() for name, component in own.items()}
    for name, component in sorted(components.items()):
        hosts = [host for host, own in placed.items() if name in own]
        if component.one_host is not None and len(hosts) > 1:
            yield (
                f"{name} is on {_named(hosts)}, and can be on one host only: {component.one_host} "
                "(give one host the roles that bring it)"
            )


def _named(hosts: Sequence[str]) -> str:
    return ", ".join(hosts[:_SHOWN]) + (f" and {len(hosts) - _SHOWN} more" if len(hosts) > _SHOWN else "")


def _companions_missing(site: Site, placed: Mapping[str, Mapping[str, Component]]) -> Iterator[str]:
    for host, own in placed.items():
        for component in own.values():
            settings = effective_settings(site, site.node(host), component).values if component.companions else {}
            for companion in component.companions:
                without = [
                    name
                    for name, there in placed.items()
                    if companion.hosts_with in there and not there.keys() & set(companion.need)
                ]
                if without and companion.is_needed(settings):
                    yield _lacking(companion, without)


def _lacking(companion: Companion, hosts: Sequence[str]) -> str:
    verb, pronoun = ("needs", "it") if len(hosts) == 1 else ("need", "them")
    wanted = companion.need[0]
    return (
        f"{_named(hosts)} {verb} {wanted} beside {companion.hosts_with}, else {companion.why} "
        f"(give {pronoun} a role with `also: [{wanted}]`)"
    )
