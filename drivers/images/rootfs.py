"""The root file system, from the distribution's own packages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from drivers.artifacts.archive import Archive
from drivers.artifacts.command import isolated, run_tool
from levier.domain.errors import MalformedReply, Rejected, Unreachable

_INSTALL = re.compile(r"^Inst (\S+) \((\S+) ", re.MULTILINE)
_NO_NETWORK = re.compile(
    r"(Could not (resolve|connect)|Failed to fetch|Temporary failure|Connection (refused|timed out)|Unable to connect)"
)
_OPTIONS = (
    "--variant=essential",
    "--format=directory",
    '--aptopt=Apt::Install-Recommends "false"',
    '--aptopt=Acquire::Languages "none"',
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    "--dpkgopt=path-include=/usr/share/locale/locale.alias",
)


class RootRecipe(Protocol):
    """What a root file system is made from: an image's, or that of a build root."""

    @property
    def suite(self) -> str:
        """The distribution release."""
        ...

    def packages(self) -> tuple[str, ...]:
        """Names of the packages asked for; what they depend on comes along."""
        ...


@dataclass(frozen=True, slots=True)
class Resolution:
    """The packages a recipe comes to today: name → version."""

    packages: dict[str, str]


def parse_resolution(output: str) -> Resolution:
    """The packages apt says it would install. Raises MalformedReply when it names none."""
    packages = {match[1]: match[2] for match in _INSTALL.finditer(output)}
    if not packages:
        raise MalformedReply("apt's simulation names no package to install")
    return Resolution(packages)


def resolve(recipe: RootRecipe, archive: Archive) -> Resolution:
    """What the archive offers for the recipe, its signatures checked. Takes seconds; changes nothing.

    Raises Unreachable when the archive cannot be asked.
    """
    output = _bootstrap(recipe, archive, target="-", options=("--simulate", "--verbose"), timeout_s=300)
    return parse_resolution(output)


def unpack(recipe: RootRecipe, archive: Archive, *, target: Path) -> None:
    """`target` is an installed system: a directory, or an archive when its name ends in `.tar.zst`.

    Raises Unreachable without an archive, Rejected else.
    """
    _bootstrap(recipe, archive, target=str(target), options=(), timeout_s=1800)


def installed(root: Path) -> dict[str, str]:
    """Packages installed below `root`: name → version."""
    listing = run_tool(
        ["dpkg-query", f"--admindir={root}/var/lib/dpkg", "-W", "-f", "${Package} ${Version}\n"], timeout_s=60
    )
    return dict(line.split(" ", 1) for line in listing.splitlines())


def _bootstrap(recipe: RootRecipe, archive: Archive, *, target: str, options: tuple[str, ...], timeout_s: float) -> str:
    command = ["mmdebstrap", *_OPTIONS, *options, f"--include={','.join(recipe.packages())}", recipe.suite, target, "-"]
    if target == "-" or target.endswith(".tar.zst"):
        command.remove("--format=directory")
    sources = archive.sources_list(recipe.suite).encode()
    try:
        return run_tool(isolated(command), stdin=sources, timeout_s=timeout_s)
    except Rejected as error:
        if _NO_NETWORK.search(error.message):
            raise Unreachable(f"the package archive cannot be reached: {error.message}") from error
        raise
