"""The components of this installation: those shipped, and those of the directories in LEVIER_COMPONENT_DIRS."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path

from levier.domain.component_settings import ReleaseOptions
from levier.services.components.loading import ComponentSet, load_components
from levier.services.components.option_sections import OPTIONS, with_foreign_sections

VARIABLE = "LEVIER_COMPONENT_DIRS"
"""Further directories of components, separated by colons; a later one wins."""


def component_directories() -> tuple[Path, ...]:
    """The directories that the environment names. Safe to repeat."""
    return tuple(Path(each).absolute() for each in os.environ.get(VARIABLE, "").split(":") if each)


def installed_components() -> ComponentSet:
    """All components of this installation, read once per process and setting. Raises as `load_components` does."""
    return _read(component_directories())


@cache
def _read(directories: tuple[Path, ...]) -> ComponentSet:
    return load_components(directories)


@cache
def listed_options() -> ReleaseOptions:
    """Options by series of releases, program, section and name; of every series that there is a list of.

    The lists are made by the releases' own oslo-config-generator (docs/decisions/0168). Read once per process.
    """
    return {
        file.stem: {
            program: {section: frozenset(options) for section, options in sections.items()}
            for program, sections in json.loads(file.read_text(encoding="utf-8")).items()
        }
        for file in sorted(OPTIONS.glob("*.json"))
    }


@cache
def known_options() -> ReleaseOptions:
    """As `listed_options`, with the sections that no generator lists; an empty set where their options are unknown.

    Read once per process.
    """
    return {series: with_foreign_sections(lists) for series, lists in listed_options().items()}
