"""The components of this installation: those shipped, and those of the directories in LEVIER_COMPONENT_DIRS."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path

from levier.domain.component_settings import KnownOptions
from levier.services.components.loading import SHIPPED, ComponentSet, load_components

VARIABLE = "LEVIER_COMPONENT_DIRS"
"""Further directories of components, separated by colons; a later one wins."""

OPTIONS = SHIPPED / "options"


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
def known_options(release: str) -> KnownOptions:
    """Options of a release by program, section and name; those of the newest series for a release without a list.

    The lists are made by the release's own oslo-config-generator (docs/decisions/0168). Empty when there is none.
    """
    series = ".".join(release.split(".")[:2])
    lists = sorted(OPTIONS.glob("*.json"))
    file = next((each for each in lists if each.stem == series), lists[-1] if lists else None)
    if file is None:
        return {}
    raw = json.loads(file.read_text(encoding="utf-8"))
    return {
        program: {section: frozenset(options) for section, options in sections.items()}
        for program, sections in raw.items()
    }
