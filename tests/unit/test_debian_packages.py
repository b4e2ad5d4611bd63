"""The list of Debian packages for the rack without root, against the list of all."""

from __future__ import annotations

import re
from pathlib import Path

from levier.lab.stub.image import _PROGRAMS

_DEPLOYMENTS = Path(__file__).parents[2] / "deployments"
_ESSENTIAL = {"util-linux"}
"""On every Debian."""


def _packages(name: str) -> set[str]:
    text = (_DEPLOYMENTS / name).read_text()
    return set(re.findall(r"^([a-z0-9][a-z0-9.+-]*)", text, re.MULTILINE))


def test_what_the_stub_rack_needs_is_part_of_the_whole_list() -> None:
    assert _packages("debian-packages-stub.txt") < _packages("debian-packages.txt")


def test_every_program_of_the_stub_rack_has_its_package_there() -> None:
    assert set(_PROGRAMS.values()) - _ESSENTIAL <= _packages("debian-packages-stub.txt")
