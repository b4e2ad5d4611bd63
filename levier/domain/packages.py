"""Packages of a host's distribution: what is installed, what is wanted, and what a change did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

from levier.domain.package_sources import PackageSources


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")


class InstalledPackages(_Frozen):
    """Everything the package database of a host knows. JSON-serialisable: the state that an undo returns to."""

    versions: dict[str, str] = Field(default_factory=dict)
    """Name → version of each package that is installed and configured."""
    unfinished: dict[str, str] = Field(default_factory=dict)
    """Name → state of each package that an interrupted run left between two states."""
    residues: frozenset[str] = frozenset()
    """Packages that were removed, and whose configuration files are still there."""
    interrupted: bool = False
    """The package database waits for a run to be completed."""

    @property
    def known(self) -> frozenset[str]:
        """Every package of which anything is there."""
        return self.residues | self.versions.keys() | self.unfinished.keys()

    @property
    def whole(self) -> bool:
        """Nothing waits to be completed."""
        return not self.unfinished and not self.interrupted

    def has(self, name: str, version: str | None = None) -> bool:
        """Whether the package is installed, in that version if one is given."""
        return self.versions.get(name) is not None and version in (None, self.versions[name])


class PackageChange(_Frozen):
    """What became of a host's packages; all three empty: nothing was changed."""

    added: dict[str, str] = Field(default_factory=dict)
    """Name → version of what was not installed before."""
    changed: dict[str, str] = Field(default_factory=dict)
    """Name → earlier version of what has another one now."""
    removed: dict[str, str] = Field(default_factory=dict)
    """Name → version of what is no longer installed."""

    @classmethod
    def between(cls, before: InstalledPackages, after: InstalledPackages) -> PackageChange:
        """The difference of two states in installed packages."""
        old, new = before.versions, after.versions
        return cls(
            added={name: version for name, version in new.items() if name not in old},
            changed={name: version for name, version in old.items() if new.get(name, version) != version},
            removed={name: version for name, version in old.items() if name not in new},
        )

    @property
    def unchanged(self) -> bool:
        """The host already was as wanted."""
        return not (self.added or self.changed or self.removed)


class SourceFile(_Frozen):
    """A file that tells a package manager where packages come from; `content` is base64 in JSON."""

    path: str
    content: bytes
    mode: int


class SourcesState(_Frozen):
    """Every such file of a host, as it was found. JSON-serialisable, for an undo."""

    files: tuple[SourceFile, ...] = ()


class PackageManager(Protocol):
    """The packages of one host. All calls raise subclasses of LevierError that name the host, and are safe to repeat.

    Only one call changes a host at a time: a further one waits for it, also for one whose caller died, and for whoever
    else holds the package database. Busy when that takes too long.
    """

    def installed(self) -> InstalledPackages:
        """What is on the host, once no call of Levier's works on it, its caller alive or dead. Changes nothing."""
        ...

    def refresh(self) -> None:
        """The lists of what the mirrors offer are those of now.

        Raises Unreachable when a mirror cannot be reached, Busy when it is just being updated, Rejected when its lists
        are refused (signature, expiry, not there).
        """
        ...

    def ensure_installed(
        self, names: Sequence[str], *, versions: Mapping[str, str] | None = None, may_change: bool = False
    ) -> PackageChange:
        """All of `names` are installed and configured; what an interrupted run left is completed first.

        `versions` pins some of them: name → version. Services of new packages are not started; those that ran go on.
        Without `may_change` nothing else that is installed changes its version. Nothing is sent to a mirror when all
        are there. Nothing was touched when it raises NotFound (unknown name or version), Unreachable (a mirror),
        InvalidRequest, or Rejected before the installation: not enough space, or what would be changed or removed.
        """
        ...

    def ensure_removed(self, names: Sequence[str]) -> PackageChange:
        """None of `names` is there, nor are their configuration files; everything else stays.

        Raises Rejected, with nothing touched, when something else that is installed needs them.
        """
        ...

    def restore(self, before: InstalledPackages, *, may_stay_newer: bool = False) -> PackageChange:
        """Exactly the packages of `before` are there, at their versions: the undo of the calls above, complete or not.

        What was not there then is purged, configuration files too; data that its programs made is left. Needs no mirror
        unless something of `before` is missing or has another version. Raises Rejected when the mirrors no longer offer
        that, all else being done; with `may_stay_newer` what has another version then keeps it.
        """
        ...

    def sources(self) -> SourcesState:
        """Where packages come from: the state to return to. Changes nothing."""
        ...

    def ensure_sources(self, wanted: PackageSources) -> tuple[str, ...]:
        """Packages come from where `wanted` says, the image's own sources are set aside; or from these, if it says
        nothing for this distribution. Returns the paths that were written, moved or removed.
        """
        ...

    def restore_sources(self, before: SourcesState) -> tuple[str, ...]:
        """The files are those of `before`. Returns the paths that were written or removed."""
        ...
