"""A component's files, units and commands for one host. Pure: no clock, no store, no host."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError
from pydantic import BaseModel, ConfigDict, JsonValue

from levier.domain.component import (
    HIGHEST_PORT,
    MOST_OPEN_SECRET_MODE,
    Action,
    Command,
    Component,
    FileFormat,
    FileSpec,
    Health,
    UnitSpec,
)
from levier.domain.component_placement import component_named
from levier.domain.component_settings import EffectiveSettings, effective_settings
from levier.domain.errors import InvalidRequest
from levier.domain.site import Site
from levier.services.components.catalog import CatalogEntry, catalog_entries
from levier.services.components.ini import merged
from levier.services.components.loading import ComponentSet
from levier.services.components.secret_references import references
from levier.services.components.template_names import template_names
from levier.services.components.view import SiteView

UNIT_DIRECTORY = "/etc/systemd/system"


class RenderedFile(BaseModel):
    """A file as it shall be on a host; secrets are references."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    content: str
    owner: str = "root"
    group: str = "root"
    mode: int = 0o644
    format: FileFormat = FileFormat.TEXT
    options: str | None = None
    restarts: bool = True


class RenderedComponent(BaseModel):
    """All of one component on one host. Holds no secret: it is stored with the revision as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    component: str
    host: str
    settings: dict[str, JsonValue]
    origins: dict[str, str]
    """Which level chose each setting: default, site, zone, role or host."""
    files: tuple[RenderedFile, ...]
    """Configuration files, then unit files, in the order of writing."""
    units: tuple[str, ...]
    """Units to enable and start, in order."""
    steady_units: tuple[str, ...] = ()
    """Those of them that stay as they are when files change: a restart would cost what others build on."""
    actions: tuple[Action, ...]
    health: Health | None
    drain: Command | None
    catalog: tuple[CatalogEntry, ...]
    ports: tuple[int, ...] = ()
    """Every TCP port that it listens on there."""


Render = Callable[[str], str]


def render_component(
    components: ComponentSet, name: str, *, site: Site, view: SiteView, host: str
) -> RenderedComponent:
    """The component `name` on `host`, secrets as references. Same arguments, same result.

    Raises NotFound for an unknown component and for a host without an address; InvalidRequest when a template fails or
    would show a secret: in a file others can read, in a command, or one that the component does not declare.
    """
    component, own = component_named(components, name), view.host(host)
    own.reached_at()
    settings = effective_settings(site, site.node(host), component)
    names = template_names(component, components=components, view=view, host=own, settings=settings.values)
    environment = _environment(components, name)
    text = _text_renderer(environment, names, component)
    files = [_file(each, environment, names, component, settings) for each in component.files]
    files += [_unit(each, environment, names, component) for each in component.units if each.template]
    return RenderedComponent(
        component=name,
        host=host,
        settings=settings.values,
        origins={key: each.origin for key, each in settings.chosen.items()},
        files=tuple(files),
        units=tuple(each.name for each in component.units),
        steady_units=tuple(each.name for each in component.units if not each.restarts),
        actions=tuple(_action(each, text) for each in component.actions),
        health=_health(component.health, text) if component.health else None,
        drain=_command(component.drain, text) if component.drain else None,
        catalog=catalog_entries(component, view),
        ports=(*component.tcp_ports, *_computed_ports(component, text)),
    )


def _environment(components: ComponentSet, name: str) -> Environment:
    return Environment(
        loader=FileSystemLoader([str(each) for each in components.template_folders(name)]),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - configuration files, not HTML
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _file(
    spec: FileSpec, environment: Environment, names: dict[str, Any], component: Component, settings: EffectiveSettings
) -> RenderedFile:
    content = _rendered(environment, spec.template, names, component)
    raw = settings.config.get(spec.name)
    if raw and spec.format is not FileFormat.TEXT:
        content = merged(content, raw)
    file = RenderedFile(
        path=spec.path,
        content=content,
        owner=spec.owner,
        group=spec.group,
        mode=int(spec.mode, 8),
        format=spec.format,
        options=spec.options,
        restarts=spec.restarts,
    )
    _check_secrets(file, component)
    return file


def _unit(spec: UnitSpec, environment: Environment, names: dict[str, Any], component: Component) -> RenderedFile:
    content = _rendered(environment, str(spec.template), {**names, "unit": spec.name}, component)
    file = RenderedFile(path=f"{UNIT_DIRECTORY}/{spec.name}", content=content)
    _check_secrets(file, component)
    return file


def _rendered(environment: Environment, template: str, names: dict[str, Any], component: Component) -> str:
    try:
        return environment.get_template(template).render(names)
    except TemplateError as error:
        line = getattr(error, "lineno", None)
        place = f", line {line}" if line else ""
        raise InvalidRequest(
            f"the template {template} of {component.name} cannot be rendered{place}: {error}",
            hint="docs/components.md lists the names that templates may use",
        ) from error


def _check_secrets(file: RenderedFile, component: Component) -> None:
    found = references(file.content)
    _check_declared(found, component, file.path)
    if found and file.mode & ~MOST_OPEN_SECRET_MODE:
        raise InvalidRequest(
            f"{file.path} of {component.name} holds the secret {min(found)} and has mode {file.mode:04o}",
            hint="give it mode '0640' or stricter in component.yaml",
        )


def _check_declared(found: Iterable[str], component: Component, place: str) -> None:
    if foreign := sorted(set(found) - component.known_secrets):
        raise InvalidRequest(
            f"{place} of {component.name} refers to the secret {foreign[0]}, which the component does not declare",
            hint="declare it under secrets: or uses_secrets: in component.yaml",
        )


def _text_renderer(environment: Environment, names: dict[str, Any], component: Component) -> Render:
    def render(text: str) -> str:
        try:
            result = environment.from_string(text).render(names)
        except TemplateError as error:
            raise InvalidRequest(
                f"{text!r} in the component {component.name} cannot be rendered: {error}",
                hint="docs/components.md lists the names that templates may use",
            ) from error
        if found := references(result):
            raise InvalidRequest(
                f"a command of {component.name} would show the secret {min(found)} to everybody on the host",
                hint="put it into a file and name that file as environment_file",
            )
        return result

    return render


def _computed_ports(component: Component, render: Render) -> tuple[int, ...]:
    words = render(component.computed_ports or "").split()
    if wrong := [word for word in words if not (word.isdecimal() and 1 <= int(word) <= HIGHEST_PORT)]:
        raise InvalidRequest(
            f"computed_ports of the component {component.name} give {wrong[0]!r}, which is no TCP port",
            hint="correct the template in component.yaml: numbers from 1 to 65535, separated by blanks",
        )
    return tuple(int(word) for word in words)


def _action(action: Action, render: Render) -> Action:
    return action.model_copy(
        update={
            "command": tuple(render(each) for each in action.command),
            "done_when": tuple(render(each) for each in action.done_when) if action.done_when else None,
            "undo": tuple(render(each) for each in action.undo) if action.undo else None,
        }
    )


def _command(command: Command, render: Render) -> Command:
    return command.model_copy(update={"command": tuple(render(each) for each in command.command)})


def _health(health: Health, render: Render) -> Health:
    http = health.http.model_copy(update={"url": render(health.http.url)}) if health.http else None
    return health.model_copy(
        update={
            "http": http,
            "command": tuple(render(each) for each in health.command) if health.command else None,
            "expect": render(health.expect) if health.expect else None,
        }
    )
