"""Releases as they lie in directories: those that Levier ships, and an installation's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path

from pydantic import ValidationError

from levier import releases as shipped
from levier.domain.errors import Conflict, InvalidRequest, NotFound
from levier.domain.release import Lock, Release, ReleaseSpec, check_release, find_release, parse_lock
from levier.services.yaml_source import read_yaml

SPEC_FILE = "release.yaml"
LOCK_FILE = "lock.txt"
BUILD_LOCK_FILE = "build.txt"


def shipped_directory() -> Path:
    """Where the releases of this Levier lie."""
    return Path(str(resources.files(shipped)))


class ReleaseCatalogue:
    """The releases of several directories; read anew each time, so that one that is added counts at once."""

    def __init__(self, *directories: Path) -> None:
        self._directories = directories

    def all(self) -> tuple[Release, ...]:
        """Every release, oldest first. Raises InvalidRequest for a wrong file, Conflict for a name defined twice."""
        found: dict[str, tuple[Release, Path]] = {}
        for directory in _release_directories(self._directories):
            release = read_release(directory)
            if release.name in found:
                raise Conflict(
                    f"release {release.name} is defined twice: in {found[release.name][1]} and in {directory}",
                    hint="give your own another patch level",
                )
            found[release.name] = (release, directory)
        return tuple(sorted((release for release, _ in found.values()), key=lambda release: release.spec.order))

    def get(self, name: str) -> Release:
        """The release; of a series alone the newest patch level. Raises NotFound, InvalidRequest."""
        return find_release(self.all(), name)


def _release_directories(directories: Iterable[Path]) -> Iterator[Path]:
    for directory in directories:
        if directory.is_dir():
            yield from sorted(path.parent for path in directory.glob(f"*/{SPEC_FILE}"))


def read_spec(directory: Path) -> ReleaseSpec:
    """What `release.yaml` in `directory` says. Raises NotFound, InvalidRequest naming the file and what is wrong."""
    path = directory / SPEC_FILE
    try:
        source = read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFound(f"there is no {path}") from error
    if source.problems:
        raise InvalidRequest(f"{path}: {source.problems[0].message}")
    try:
        spec = ReleaseSpec.model_validate(source.document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidRequest(f"{path}: {where}: {first['msg']}") from error
    if directory.name != spec.name:
        raise InvalidRequest(f"{path} describes {spec.name}, and lies in a directory of another name")
    return spec


def read_release(directory: Path) -> Release:
    """The release in `directory`, its locks checked against what it asks for.

    Raises NotFound for a missing file, InvalidRequest naming the file and what is wrong in it.
    """
    spec = read_spec(directory)
    release = Release(spec, _read_lock(directory / LOCK_FILE), _read_lock(directory / BUILD_LOCK_FILE))
    check_release(release)
    return release


def _read_lock(path: Path) -> Lock:
    try:
        return parse_lock(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFound(f"there is no {path}", hint="make it: make lock-releases") from error
    except InvalidRequest as error:
        raise InvalidRequest(f"{path}: {error.message}", hint=error.hint) from error
