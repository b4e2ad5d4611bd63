"""What an installation does on which host, in stages: each one builds on those before it. Pure.

Steps are known by name here; `levier.services.steps` has what they do. A step of a component carries the component's
name, such as `start-keystone`: the log knows steps by (name, host).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

from levier.domain.component import Action, Component, Moment, Reach
from levier.domain.component_placement import Components, component_named, components_of, missing_needs
from levier.domain.errors import InvalidRequest
from levier.domain.operation import PlannedStep
from levier.domain.site import Site

DATABASES = "mariadb"
"""The component that holds the others' databases."""
MESSAGE_QUEUE = "rabbitmq"
"""The component that carries the others' messages."""
IDENTITY = "keystone"
"""The component with the catalogue of services."""
PROXY = "haproxy"
"""The component that offers the public endpoints by TLS."""
COMPUTE_API = "nova-api"
"""The component that knows availability zones."""
COMPUTE = "nova-compute"
"""The component that runs servers."""
VOLUMES_API, VOLUMES = "cinder-api", "cinder-volume"
"""The components that know volumes, and store them."""

REACH = "reach-host"
TAKE = ("acquire-lease", REACH)
"""What is done on a host that is ready; others are expanded, and reached then."""
SOURCES = "package-sources"
PACKAGES = "install-packages"
UNPACK = "unpack-bundle"
ACCESS = "operators-access"
REGISTERED = "compute-registered"
TAKES_WORK = "take-work"
ZONES = "availability-zones"
SMOKE_PREPARE, SMOKE_SERVER, SMOKE_CHECK, SMOKE_REMOVE = "smoke-prepare", "smoke-server", "smoke-check", "smoke-remove"
SMOKE_TEST = frozenset({SMOKE_PREPARE, SMOKE_SERVER, SMOKE_CHECK, SMOKE_REMOVE})
"""The steps of the smoke test."""
IN_SERVICE = "mark-in-service"

Placed = tuple[str, str]
"""A step's name and its host."""


def configure(component: str) -> str:
    """Its users, directories and files, and the link to its release."""
    return f"configure-{component}"


def database(component: str) -> str:
    """Its databases and their users."""
    return f"database-{component}"


def message_queue(component: str) -> str:
    """Its users of the message queue."""
    return f"message-queue-{component}"


def catalog(component: str) -> str:
    """Its services, endpoints and users in the catalogue."""
    return f"catalog-{component}"


def act(component: str, action: str) -> str:
    """One of its actions, such as a schema."""
    return f"{component}-{action}"


def start(component: str) -> str:
    """Its units run and it is healthy."""
    return f"start-{component}"


@dataclass(frozen=True, slots=True)
class InstallStage:
    """Steps on hosts that may go on at the same time; in order on each host."""

    title: str
    steps: tuple[Placed, ...]

    def by_hosts(self) -> list[tuple[list[str], list[str]]]:
        """Steps in order, and the hosts on which exactly these are taken."""
        own: dict[str, list[str]] = {}
        for step, host in self.steps:
            own.setdefault(host, []).append(step)
        alike: dict[tuple[str, ...], list[str]] = {}
        for host, steps in own.items():
            alike.setdefault(tuple(steps), []).append(host)
        return [(list(steps), hosts) for steps, hosts in alike.items()]


def install_stages(
    site: Site, components: Components, *, expand: Sequence[str], to_expand: Collection[str]
) -> tuple[InstallStage, ...]:
    """The stages of an installation of `site` on the nodes that have roles, in order; none is empty.

    `to_expand` are the nodes that are not ready: theirs is the sequence `expand` first, and their clocks have to be as
    right as others'. Raises InvalidRequest when no node has a role, or a component needs another that no host runs;
    NotFound for an unknown component.
    """
    if missing := missing_needs(site, components):
        raise InvalidRequest(
            f"the site cannot work: {'; '.join(missing)}",
            hint="give hosts the roles, and roles the components (`also:`), that are missing",
        )
    layout = _Layout(site, components)
    if not layout.hosts:
        raise InvalidRequest("no node has a role", hint="give nodes roles: such as [controller] in the site file")
    hosts = layout.hosts
    takes = [(step, host) for host in hosts for step in ((*expand, REACH) if host in to_expand else TAKE)]
    stages = [
        InstallStage("hosts", tuple(takes)),
        InstallStage("software", tuple((step, host) for host in hosts for step in (SOURCES, PACKAGES, UNPACK))),
        *chain.from_iterable(_level(layout, names) for names in layout.levels),
        InstallStage("register", tuple(layout.registered())),
        InstallStage("join", tuple(layout.joined())),
    ]
    stages += _smoke_test(layout)
    stages.append(InstallStage("in service", tuple((IN_SERVICE, host) for host in hosts)))
    return tuple(stage for stage in stages if stage.steps)


def planned(stages: Iterable[InstallStage]) -> tuple[PlannedStep, ...]:
    """The stages as an operation's plan: the number of a stage is that of a wave."""
    return tuple(PlannedStep(step, host, wave=n) for n, stage in enumerate(stages) for step, host in stage.steps)


def pillars(site: Site, components: Components) -> frozenset[str]:
    """The hosts that others build on: with a component that another one needs, or the public endpoints. Pure."""
    layout = _Layout(site, components)
    needed = {PROXY, *(need for name in layout.names for need in components[name].needs)}
    return frozenset(host for name in needed for host in layout.hosts_with(name))


@dataclass(frozen=True)
class _Layout:
    site: Site
    components: Components

    @cached_property
    def placed(self) -> Mapping[str, tuple[Component, ...]]:
        return {n.name: components_of(self.site, n, self.components) for n in self.site.nodes if n.roles}

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(self.placed)

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted({each.name for own in self.placed.values() for each in own}))

    def hosts_with(self, component: str) -> tuple[str, ...]:
        return tuple(host for host, own in self.placed.items() if component in {each.name for each in own})

    def first(self, component: str) -> str | None:
        return next(iter(self.hosts_with(component)), None)

    @cached_property
    def levels(self) -> tuple[tuple[str, ...], ...]:
        """Components that need nothing of each other, those that others need first."""
        depth: dict[str, int] = {}

        def of(name: str) -> int:
            if name not in depth:
                component = component_named(self.components, name)
                below = {*component.needs, *component.beside, *component.after} & set(self.names)
                depth[name] = 1 + max((of(each) for each in below), default=-1)
            return depth[name]

        for name in self.names:
            of(name)
        return tuple(tuple(n for n in self.names if depth[n] == d) for d in range(max(depth.values(), default=-1) + 1))

    def registered(self) -> Iterator[Placed]:
        """Operators get in, nova sees its compute hosts, each of which falls alone, and drained hosts take work."""
        if identity := self.first(IDENTITY):
            yield ACCESS, identity
        if self.first(COMPUTE_API):
            yield from ((REGISTERED, host) for host in self.hosts_with(COMPUTE))
        yield from ((TAKES_WORK, host) for host in self._workers())

    def _workers(self) -> list[str]:
        """The hosts that servers or volumes are placed on."""
        computes = self.hosts_with(COMPUTE) if self.first(COMPUTE_API) else ()
        stores = self.hosts_with(VOLUMES) if self.first(VOLUMES_API) else ()
        return [host for host in self.hosts if host in {*computes, *stores}]

    def joined(self) -> Iterator[Placed]:
        """Compute hosts are mapped to their cell, and in their zones."""
        for name in self.names:
            yield from self.acts(name, Moment.AFTER_JOIN)
        if (api := self.first(COMPUTE_API)) and self.hosts_with(COMPUTE):
            yield ZONES, api

    def acts(self, name: str, moment: Moment) -> Iterator[Placed]:
        """The component's actions of that moment. Keystone's own entries take a keystone that runs, so others wait."""
        if name == IDENTITY and moment is Moment.AFTER_START:
            yield from self.catalogued(name)
        for action in self.components[name].actions:
            if action.when is moment:
                yield from ((act(name, action.name), host) for host in self._reached(name, action))

    def catalogued(self, name: str) -> Iterator[Placed]:
        """The component's entries are made where keystone is."""
        if self.components[name].catalog and (host := self.first(IDENTITY)):
            yield catalog(name), host

    def _reached(self, component: str, action: Action) -> tuple[str, ...]:
        if action.joins is not None and not self.hosts_with(action.joins):
            return ()
        hosts = self.hosts_with(component)
        return hosts if action.reach is Reach.EVERY_HOST else hosts[:1]


def _level(layout: _Layout, names: tuple[str, ...]) -> tuple[InstallStage, ...]:
    """Components that need nothing of each other: prepared, started, and what they do then."""
    hosts = {name: layout.hosts_with(name) for name in names}
    return (
        InstallStage(f"configure {', '.join(names)}", tuple(_preparations(layout, names))),
        _acting("prepare", layout, names, Moment.BEFORE_START),
        InstallStage(f"start {', '.join(names)}", tuple((start(name), host) for name in names for host in hosts[name])),
        _acting("complete", layout, names, Moment.AFTER_START),
    )


def _acting(verb: str, layout: _Layout, names: Iterable[str], moment: Moment) -> InstallStage:
    steps = {name: tuple(layout.acts(name, moment)) for name in names}
    own = [name for name, taken in steps.items() if taken]
    return InstallStage(f"{verb} {', '.join(own)}", tuple(chain.from_iterable(steps.values())))


def _smoke_test(layout: _Layout) -> tuple[InstallStage, ...]:
    """A server on every compute host, then nothing of it; without nova, as much as there is."""
    host = layout.first(COMPUTE_API) or layout.first(IDENTITY)
    if host is None:
        return ()
    computes = layout.hosts_with(COMPUTE) if layout.first(COMPUTE_API) else ()
    return (
        InstallStage("smoke test: prepared", ((SMOKE_PREPARE, host),)),
        InstallStage("smoke test: servers", tuple((SMOKE_SERVER, each) for each in computes)),
        InstallStage("smoke test: checks", tuple((SMOKE_CHECK, each) for each in computes)),
        InstallStage("smoke test: removed", ((SMOKE_REMOVE, host),)),
    )


def _preparations(layout: _Layout, names: tuple[str, ...]) -> Iterator[Placed]:
    for name in names:
        component = layout.components[name]
        yield from ((configure(name), host) for host in layout.hosts_with(name))
        if component.databases and (host := layout.first(DATABASES)):
            yield database(name), host
        if component.message_queue and (host := layout.first(MESSAGE_QUEUE)):
            yield message_queue(name), host
        # keystone's own are made when it runs.
        if name != IDENTITY:
            yield from layout.catalogued(name)
