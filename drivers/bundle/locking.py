"""Makes the locks of a release from what it asks for."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from drivers.bundle.index import index_choices
from drivers.bundle.tool import ask_index
from levier.domain.errors import Rejected
from levier.domain.release import Lock, ReleaseSpec, WantedPackage, parse_lock

_PLATFORM = "x86_64-manylinux_2_36"
"""Debian 12's C library: what has wheels for it runs on newer ones too."""


def make_lock(spec: ReleaseSpec) -> Lock:
    """What is delivered: the packages of the release and all they depend on, as the index had them on its day.

    Resolving again gives the same, whatever came later. Takes seconds to minutes: packages without published metadata
    are asked by running their set-up code, as pip does. Raises Unreachable, or Rejected with the versions in conflict.
    """
    return _resolve(spec, spec.packages, constraints=spec.constraints)


def make_build_lock(spec: ReleaseSpec) -> Lock:
    """What compiles the source distributions. As `make_lock`."""
    return _resolve(spec, spec.build_tools) if spec.build_tools else Lock("", ())


def _resolve(spec: ReleaseSpec, wanted: Sequence[WantedPackage], *, constraints: Sequence[WantedPackage] = ()) -> Lock:
    with tempfile.TemporaryDirectory(prefix="levier-lock-") as directory:
        work = Path(directory)
        (work / "wanted.in").write_text("".join(f"{each.requirement()}\n" for each in wanted), encoding="utf-8")
        (work / "constraints.in").write_text("".join(f"{each.requirement()}\n" for each in constraints), "utf-8")
        where = ["--python-version", spec.python, "--python-platform", _PLATFORM]
        when = ["--exclude-newer", spec.as_of.isoformat()]
        for each in (*wanted, *constraints):
            if each.as_of is not None:
                when += ["--exclude-newer-package", f"{each.name}={each.as_of.isoformat()}"]
        form = ["--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]
        files = ["wanted.in", "--constraints", "constraints.in", "-o", "lock.txt"]
        *first, last = index_choices()
        command = ["pip", "compile", *files, *form, *where, *when]
        try:
            ask_index(command, index=first[0] if first else last, cwd=work, timeout_s=900)
        except Rejected:
            if not first:
                raise
            ask_index(command, index=last, cwd=work, timeout_s=900)
        return parse_lock((work / "lock.txt").read_text(encoding="utf-8"))
