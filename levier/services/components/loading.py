"""Components are read from folders: the ones shipped, and those of further directories that an operator names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from levier.domain.component import Component
from levier.domain.component_placement import dependency_order
from levier.domain.component_schema import component_findings
from levier.domain.errors import InvalidRequest
from levier.domain.problems import Problem, closest, render_path, render_problems
from levier.services.yaml_source import Source, read_yaml

SHIPPED = Path(__file__).parents[2] / "components"
"""The components that come with Levier."""

FILE = "component.yaml"
SHARED = "shared"
"""A folder for templates of several components; it is no component."""


class ComponentInvalid(InvalidRequest):
    """A component's folder cannot be used; `problems` are ordered by line and column."""

    def __init__(self, filename: str, problems: Sequence[Problem]) -> None:
        super().__init__(
            f"{filename} is no component:\n{render_problems(problems, filename)}",
            hint="correct the file (docs/components.md has all keys), or take its folder away",
        )
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class ComponentSet(Mapping[str, Component]):
    """All components by name, and where the templates of each are."""

    components: Mapping[str, Component]
    folders: Mapping[str, Path]

    def __getitem__(self, name: str) -> Component:
        return self.components[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.components)

    def __len__(self) -> int:
        return len(self.components)

    def template_folders(self, name: str) -> tuple[Path, ...]:
        """Where a component's templates are looked for, in order."""
        return _template_folders(self.folders[name])


def _template_folders(folder: Path) -> tuple[Path, ...]:
    """The component's own folder, `shared` beside it, Levier's own `shared`."""
    return (folder, folder.parent / SHARED, SHIPPED / SHARED)


def load_components(directories: Sequence[Path] = ()) -> ComponentSet:
    """The components shipped and those of `directories`; a later one of the same name replaces an earlier one.

    Safe to repeat. Raises ComponentInvalid with every error of the first file that has one, InvalidRequest for a
    directory that is none, for a need that does not exist and for needs in a circle.
    """
    found: dict[str, tuple[Component, Path]] = {}
    for directory in (SHIPPED, *directories):
        for folder in _folders(directory):
            found[folder.name] = (load_component(folder), folder)
    components = {name: component for name, (component, _) in sorted(found.items())}
    _check_needs(components)
    dependency_order(components.values())
    return ComponentSet(components, {name: folder for name, (_, folder) in found.items()})


def load_component(folder: Path) -> Component:
    """The component in `folder`. Raises ComponentInvalid."""
    file = folder / FILE
    source = read_yaml(file.read_text(encoding="utf-8"))
    problems = list(source.problems)
    component: Component | None = None
    if source.document is not None or not problems:
        try:
            component = Component.model_validate(source.document)
        except ValidationError as error:
            problems += [_problem(source, *each) for each in component_findings(error)]
        else:
            problems += _folder_problems(source, component, folder)
    if component is None or problems:
        raise ComponentInvalid(str(file), problems)
    return component


def _folders(directory: Path) -> list[Path]:
    if not directory.is_dir():
        raise InvalidRequest(
            f"{directory} is no directory of components", hint="correct LEVIER_COMPONENT_DIRS, or make the directory"
        )
    return sorted(path.parent for path in directory.glob(f"*/{FILE}"))


def _folder_problems(source: Source, component: Component, folder: Path) -> Iterator[Problem]:
    if component.name != folder.name:
        yield _problem(source, ("name",), f"the folder is named {folder.name}", f"expected name: {folder.name}")
    places = _template_folders(folder)
    templates = [(("files", i, "template"), each.template) for i, each in enumerate(component.files)]
    templates += [(("units", i, "template"), each.template) for i, each in enumerate(component.units) if each.template]
    for path, template in templates:
        if not any((place / template).is_file() for place in places):
            near = closest(template, (each.name for place in places for each in place.glob("*.j2")))
            expected = f"did you mean {near!r}?" if near else f"expected it in {folder}"
            yield _problem(source, path, f"there is no template {template}", expected)


def _problem(source: Source, path: tuple[str | int, ...], message: str, expected: str) -> Problem:
    line, column = source.position(path).value
    return Problem(line=line, column=column, path=render_path(path), message=message, expected=expected)


def _check_needs(components: Mapping[str, Component]) -> None:
    for component in components.values():
        for need in _named_by(component):
            if need not in components:
                match = closest(need, components)
                hint = f"did you mean {match!r}?" if match else "add its folder, or take it out of needs:"
                raise InvalidRequest(f"the component {component.name} needs {need!r}, which does not exist", hint=hint)


def _named_by(component: Component) -> Iterator[str]:
    """Every other component that it names."""
    yield from (*component.needs, *component.beside, *component.after)
    for each in component.companions:
        yield from (each.hosts_with, *each.need)
