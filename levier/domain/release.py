"""Releases: pinned versions of everything OpenStack is made of, and the bundles they are delivered as."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from levier.domain.errors import InvalidRequest, NotFound

ROOT = "/opt/levier"
"""Where a host keeps unpacked bundles and the links to those that are in use."""
SERIES_PATTERN = r"[0-9]{4}\.[0-9]{1,2}"
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Series = Annotated[str, StringConstraints(pattern=rf"^{SERIES_PATTERN}$")]
PackageName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
OsPackage = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9+.-]+$")]
Version = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+!]*$")]

_NAME = re.compile(rf"({SERIES_PATTERN})(?:\.([0-9]{{1,3}}))?")
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[0-9A-Za-z.+!]+)(?P<rest>(\s.*)?)")
_HASHES = re.compile(r"(\s+--hash=sha256:[0-9a-f]{64})+\s*")


class ReleaseName(NamedTuple):
    """A release's name in parts; they sort by age within a series. `patch` None stands for the newest there is."""

    series: str
    patch: int | None

    def __str__(self) -> str:
        return self.series if self.patch is None else f"{self.series}.{self.patch}"


def parse_release_name(text: str) -> ReleaseName:
    """`2026.2.1` or `2026.2` in parts. Raises InvalidRequest for anything else."""
    match = _NAME.fullmatch(text)
    if match is None:
        raise InvalidRequest(f"{text!r} is no name of a release", hint="such as 2026.2, or 2026.2.1 for a patch level")
    return ReleaseName(match[1], None if match[2] is None else int(match[2]))


class WantedPackage(BaseModel):
    """One package that a release asks for by name; what it depends on follows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: PackageName
    extras: tuple[PackageName, ...] = ()
    version: Version | None = None
    """The one version that is wanted; None for the newest of the release's day."""
    as_of: datetime | None = None
    """A later day than the release's, for this package only."""
    why: str = ""
    """Why this package, or why this very version or day."""

    @model_validator(mode="after")
    def _a_pin_has_a_reason(self) -> WantedPackage:
        pin = self.version or self.as_of
        if pin is not None and not self.why.strip():
            raise ValueError(f"{self.name} is pinned to {pin} without a reason (`why`)")
        return self

    def requirement(self) -> str:
        """The package as a pip requirement."""
        extras = f"[{','.join(self.extras)}]" if self.extras else ""
        return f"{self.name}{extras}" + (f"=={self.version}" if self.version else "")


class ReleaseSpec(BaseModel):
    """What a release is made from: the content of its `release.yaml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    series: Series
    patch: Annotated[int, Field(ge=1, le=999)]
    summary: str
    as_of: datetime
    """Only what the package index had by then is chosen, so that resolving again gives the same."""
    images: Annotated[tuple[str, ...], Field(min_length=1)]
    """Operating system images it is for."""
    python: str
    """The oldest Python of these images, such as 3.11: what versions are chosen for."""
    packages: Annotated[tuple[WantedPackage, ...], Field(min_length=1)]
    constraints: tuple[WantedPackage, ...] = ()
    """Versions of what the packages depend on, each with its reason."""
    build_tools: tuple[WantedPackage, ...] = ()
    """What compiling the source distributions of the lock takes."""
    build_os_packages: tuple[OsPackage, ...] = ()
    """What it takes of the operating system beside a C compiler and Python's headers."""

    @model_validator(mode="after")
    def _each_is_named_once(self) -> ReleaseSpec:
        names = [each.name for each in (*self.packages, *self.constraints)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"named more than once: {', '.join(twice)}")
        return self

    @property
    def name(self) -> str:
        """The release's name, such as 2026.2.1."""
        return f"{self.series}.{self.patch}"

    @property
    def order(self) -> tuple[tuple[int, ...], int]:
        """Sorts releases from the oldest to the newest."""
        return tuple(int(part) for part in self.series.split(".")), self.patch


@dataclass(frozen=True, slots=True)
class PinnedPackage:
    """One package of a lock: its normalised name, its version, and the SHA-256 of every file it may come from."""

    name: str
    version: str
    sha256s: frozenset[str]


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock file in pip's requirement format with hashes."""

    text: str
    packages: tuple[PinnedPackage, ...]

    @property
    def digest(self) -> str:
        """Lower-case hexadecimal SHA-256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def versions(self) -> dict[str, str]:
        """Name → version."""
        return {package.name: package.version for package in self.packages}


@dataclass(frozen=True, slots=True)
class Release:
    """A release with its locks: of what is delivered, and of what compiles its source distributions."""

    spec: ReleaseSpec
    lock: Lock
    build_lock: Lock

    @property
    def name(self) -> str:
        """The release's name, such as 2026.2.1."""
        return self.spec.name


def normal_name(name: str) -> str:
    """A package's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def parse_lock(text: str) -> Lock:
    """The lock in `text`. Raises InvalidRequest for a line that is no exact version with SHA-256 digests.

    Nothing else is allowed in: an index, a URL, an editable path or an option would decide where packages come from,
    which is the machine's own business, or what they are, which is the digests'.
    """
    packages: dict[str, PinnedPackage] = {}
    for number, line in _logical_lines(text):
        match = _REQUIREMENT.fullmatch(line)
        if match is None or not _HASHES.fullmatch(match["rest"]):
            raise InvalidRequest(
                f"line {number} of the lock is not `name==version --hash=sha256:…`: {line[:80]!r}",
                hint="make the lock anew: make lock-releases",
            )
        name = normal_name(match["name"])
        if name in packages:
            raise InvalidRequest(f"line {number} of the lock names {name} again", hint="make the lock anew")
        digests = frozenset(re.findall(r"sha256:([0-9a-f]{64})", match["rest"]))
        packages[name] = PinnedPackage(name, match["version"], digests)
    return Lock(text, tuple(packages[name] for name in sorted(packages)))


def _logical_lines(text: str) -> Iterable[tuple[int, str]]:
    """Requirements with their continuation lines joined, without comments; the number is that of the first line."""
    pending, first = "", 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not pending and (not line or line.startswith("#")):
            continue
        first = first if pending else number
        pending += line.removesuffix("\\")
        if not line.endswith("\\"):
            yield first, pending.strip()
            pending = ""
    if pending:
        yield first, f"{pending.strip()} \\"  # cut off in the middle: no requirement


def check_release(release: Release) -> None:
    """The lock has every package of the specification, in the version it asks for. Raises InvalidRequest naming all."""
    versions = release.lock.versions()
    tools = release.build_lock.versions()
    wrong = [
        f"{wanted.name} {wanted.version or ''}".strip() + f" is wanted, the lock has {found.get(wanted.name) or 'none'}"
        for found, group, needed in (
            (versions, release.spec.packages, True),
            (versions, release.spec.constraints, False),
            (tools, release.spec.build_tools, True),
        )
        for wanted in group
        if (needed and wanted.name not in found)
        or (wanted.version is not None and found.get(wanted.name, wanted.version) != wanted.version)
    ]
    if wrong:
        raise InvalidRequest(f"release {release.name}: {'; '.join(wrong)}", hint="make the lock anew")


class BundleManifest(BaseModel):
    """What is written beside a bundle, and what a host is told of it. Nothing secret in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    release: str
    image: str
    python: str
    """Version of the interpreter it runs on, such as 3.11: the host's own /usr/bin/python3.11."""
    architecture: str
    """As uname(1) says it: x86_64."""
    sha256: Sha256
    """Of the archive."""
    size_bytes: int
    """Of the archive."""
    unpacked_bytes: int
    """What its files come to in blocks of 4 KiB."""
    files: int
    packages: dict[str, str]
    """Name → version."""
    os_packages: tuple[OsPackage, ...]
    """Packages of the operating system whose libraries it loads: they have to be installed on the host."""
    built_at: datetime
    lock_digest: Sha256
    inputs_digest: Sha256
    """Over everything that decided what the bundle became: lock, build root, builder."""

    @property
    def identity(self) -> str:
        """The name of its directory on a host, such as 2026.2.1-0a1b2c3d."""
        return f"{self.release}-{self.inputs_digest[:8]}"

    @property
    def location(self) -> str:
        """Where it is unpacked."""
        return f"{ROOT}/releases/{self.identity}"


class Change(NamedTuple):
    """A package in two releases; None where it is absent."""

    name: str
    before: str | None
    after: str | None


def diff_packages(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Change, ...]:
    """Every package that was added, removed, or has another version, by name."""
    names = sorted({*before, *after})
    return tuple(Change(n, before.get(n), after.get(n)) for n in names if before.get(n) != after.get(n))


def find_release(releases: Iterable[Release], name: str) -> Release:
    """The release of that name; of a series alone the newest patch level.

    Raises InvalidRequest for what is no name, NotFound with the names there are.
    """
    wanted = parse_release_name(name)
    known = sorted(releases, key=lambda release: release.spec.order)
    fitting = [r for r in known if r.spec.series == wanted.series and wanted.patch in (None, r.spec.patch)]
    if not fitting:
        raise NotFound(
            f"there is no release {name}", hint=f"there are: {', '.join(release.name for release in known) or 'none'}"
        )
    return fitting[-1]
