"""Settings of components: what a site file may say of them, and what holds on one host after the overlay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from levier.domain.component import Component, FileFormat, FileSpec, setting_error
from levier.domain.errors import InvalidRequest
from levier.domain.named_sections import NamingOption, named_sections
from levier.domain.problems import Finding, Path, closest, suggest
from levier.domain.release import parse_release_name
from levier.domain.site import Node, Site
from levier.domain.site_document import Entry, root_of

CONFIG = "config"
"""The key below a component that holds raw options: file → section → option → value."""

KnownOptions = Mapping[str, Mapping[str, frozenset[str]]]
"""Options of a release: whose (`nova`) → section → options; an empty set where a section's options are not known."""

Naming = Mapping[str, Sequence[NamingOption]]
"""Whose (`cinder`) → options that name further sections."""

ReleaseOptions = Mapping[str, KnownOptions]
"""The same by series of releases."""

RawConfig = Mapping[str, Mapping[str, Mapping[str, JsonValue]]]


@dataclass(frozen=True, slots=True)
class Chosen:
    """A setting's value on one host, and the level that chose it: `default`, `site`, `zone a`, `role compute`, …"""

    value: JsonValue
    origin: str


@dataclass(frozen=True, slots=True)
class EffectiveSettings:
    """What holds for one component on one host."""

    chosen: Mapping[str, Chosen]
    config: RawConfig

    @property
    def values(self) -> dict[str, JsonValue]:
        """The plain values by name."""
        return {name: each.value for name, each in self.chosen.items()}


def effective_settings(site: Site, node: Node, component: Component) -> EffectiveSettings:
    """Defaults, then site, zone, roles (compute, controller, network, storage: in this order) and host; the last wins.

    Lists are replaced, not joined; raw configuration is laid over option by option. Pure. What the component does not
    know is left out: `settings_findings` reports it.
    """
    chosen = {name: Chosen(each.default, "default") for name, each in component.settings.items()}
    config: dict[str, dict[str, dict[str, JsonValue]]] = {}
    for origin, values in _levels(site, node, component.name):
        for name, value in values.items():
            if name == CONFIG:
                _lay_over(config, value)
            elif name in chosen:
                chosen[name] = Chosen(value, origin)
    return EffectiveSettings(chosen, config)


def _levels(site: Site, node: Node, component: str) -> Iterator[tuple[str, Mapping[str, JsonValue]]]:
    zone = next(each for each in site.zones if each.name == site.zone_of(node))
    yield "site", site.settings.get(component, {})
    yield f"zone {zone.name}", zone.settings.get(component, {})
    for role in node.roles:
        yield f"role {role.value}", site.role(role).settings.get(component, {})
    yield f"host {node.name}", node.settings.get(component, {})


def _lay_over(config: dict[str, dict[str, dict[str, JsonValue]]], more: object) -> None:
    for file, sections in _mapping(more).items():
        for section, options in _mapping(sections).items():
            config.setdefault(file, {}).setdefault(section, {}).update(_mapping(options))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def settings_findings(
    document: object, components: Mapping[str, Component], options: ReleaseOptions, naming: Naming
) -> tuple[Finding, ...]:
    """Every component, setting, file, section and option of a plain site document that does not exist or fit. Pure.

    Sections and options are those of the site's own release: where there is no list of them, none is accepted. `naming`
    says which options name further sections; it counts where a file's `config:` has them, at any level.
    """
    root = root_of(document)
    levels = (root, *root.entries("zones"), *root.entries("roles"), *root.entries("nodes"))
    checker = _Checker(components, options, naming, _series(root.content.get("release"), options), levels)
    return (
        *(finding for level in levels for finding in checker.settings(level)),
        *(finding for role in root.entries("roles") for finding in checker.role(role)),
    )


def _series(release: object, options: ReleaseOptions) -> str:
    """The series of the release; the newest one for a site that names none, or nothing that is a release."""
    try:
        return parse_release_name(release if isinstance(release, str) else "").series
    except InvalidRequest:
        return max(options, default="")


@dataclass(frozen=True, slots=True)
class _Checker:
    components: Mapping[str, Component]
    options: ReleaseOptions
    naming: Naming
    series: str
    """The series whose options the site's files may have."""
    levels: tuple[Entry, ...]
    """Everything in the document that may have settings."""

    def role(self, role: Entry) -> Iterator[Finding]:
        for key in ("components", "also", "without"):
            names = role.content.get(key)
            for index, name in enumerate(names if isinstance(names, list | tuple) else ()):
                if isinstance(name, str) and name not in self.components:
                    yield self._unknown_component((*role.path, key, index), name, at_key=False)

    def settings(self, level: Entry) -> Iterator[Finding]:
        settings = level.inner("settings")
        for name in settings.content if settings else ():
            component = self.components.get(name)
            if component is None:
                yield self._unknown_component((*level.path, "settings", name), name, at_key=True)
            elif settings and (values := settings.inner(name)):
                yield from self._values(component, values)

    def _unknown_component(self, path: Path, name: str, *, at_key: bool) -> Finding:
        listed = "expected one of those that `levier component list` shows"
        return Finding(
            path, f"there is no component named {name!r}", _near(name, self.components, listed), at_key=at_key
        )

    def _values(self, component: Component, values: Entry) -> Iterator[Finding]:
        for name, value in values.content.items():
            path = (*values.path, name)
            if name == CONFIG:
                yield from self._config(component, values)
            elif name not in component.settings:
                known = (*component.settings, CONFIG)
                message = f"{component.name} has no setting named {name!r}"
                listed = f"expected one of {', '.join(known)}"
                yield Finding(path, message, _near(name, known, listed), at_key=True)
            elif wrong := setting_error(component.settings[name], value):
                wants_text = component.settings[name].type == "text" and not isinstance(value, str)
                yield Finding(path, *wrong, wants_text=wants_text)

    def _config(self, component: Component, values: Entry) -> Iterator[Finding]:
        config = values.inner(CONFIG)
        if config is None:
            yield Finding((*values.path, CONFIG), "this is no mapping", "expected file → section → option → value")
            return
        files = {each.name: each for each in component.files if each.format is not FileFormat.TEXT}
        for name in config.content:
            sections = config.inner(name)
            if name not in files:
                message = f"{component.name} has no file named {name!r} with sections and options"
                listed = f"expected one of {', '.join(files)}" if files else "expected no config: for this component"
                yield Finding((*config.path, name), message, _near(name, files, listed), at_key=True)
            elif sections is None:
                yield Finding((*config.path, name), "this is no mapping", "expected section → option → value")
            elif self._is_unlisted(files[name]):
                yield self._unlisted((*config.path, name))
            else:
                yield from self._sections(self._known(component, files[name]), sections)

    def _is_unlisted(self, file: FileSpec) -> bool:
        """Only other series' lists have its options. A program that is in no list is checked in no series."""
        return self.series not in self.options and any(file.options in each for each in self.options.values())

    def _unlisted(self, path: Path) -> Finding:
        message = f"Levier has no list of the options of {self.series}, so none can be checked"
        return Finding(path, message, f"expected a release of {' or '.join(sorted(self.options))}", at_key=True)

    def _known(self, component: Component, file: FileSpec) -> Mapping[str, frozenset[str]] | None:
        """The sections that the file may have, with their options. None: nobody listed them."""
        listed = self.options.get(self.series, {}).get(file.options or "")
        if listed is None:
            return None
        # One level may name a section that another one fills.
        contents = [each.content for level in self.levels if (each := _file_entry(level, component.name, file.name))]
        return {**listed, **named_sections(contents, self.naming.get(file.options or "", ()), listed)}

    def _sections(self, known: Mapping[str, frozenset[str]] | None, sections: Entry) -> Iterator[Finding]:
        for name in sections.content:
            path = (*sections.path, name)
            options = sections.inner(name)
            if known is not None and name not in known:
                listed = "expected a section of this release, as its oslo-config-generator names it"
                message = f"there is no section named {name!r} here"
                yield Finding(path, message, _near(name, known, listed), at_key=True)
            if options is None:
                yield Finding(path, "this is no mapping", "expected option → value")
                continue
            for option, value in options.content.items():
                yield from _option_findings((*path, option), option, value, (known or {}).get(name))


def _file_entry(level: Entry, component: str, file: str) -> Entry | None:
    """What a level says of one file of a component."""
    entry: Entry | None = level
    for key in ("settings", component, CONFIG, file):
        entry = entry.inner(key) if entry else None
    return entry


def _option_findings(path: Path, option: str, value: object, known: frozenset[str] | None) -> Iterator[Finding]:
    if known and option not in known:
        listed = "expected an option of this release, as its oslo-config-generator names it"
        yield Finding(path, f"there is no option named {option!r} here", _near(option, known, listed), at_key=True)
    items = value if isinstance(value, list) else [value]
    if not items or not all(isinstance(each, str | int | float) for each in items):
        yield Finding(path, "this is no value of an option", "expected a text, a number, true, false or a list of them")
    elif any(isinstance(each, str) and ("\n" in each or "\r" in each) for each in items):
        yield Finding(path, "the value has line breaks", "expected one line; a list repeats the option")


def _near(word: str, known: Any, listed: str) -> str:
    return suggest(word, tuple(known), otherwise=listed) if closest(word, tuple(known)) else listed
