"""The root that bundles are built in: the operating system of the hosts with a C compiler and Python's headers."""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from shutil import rmtree

from pydantic import BaseModel, ConfigDict, ValidationError

from drivers.artifacts.archive import discover_archive
from drivers.artifacts.command import run_tool
from drivers.artifacts.shelf import build_lock, file_digest, inputs_digest, publish, work_directory
from drivers.images import rootfs
from drivers.images.recipe import recipe_named
from levier.domain.errors import Conflict, MalformedReply, Unreachable

Progress = Callable[[str], None]

_PACKAGES = ("gcc", "libc6-dev", "python3", "python3-dev", "zstd")
_ARCHIVE = "root.tar.zst"
_RECORD = "root.json"
_PATIENCE_S = 900
_NEWEST_GLIBC = 40
"""The newest `manylinux_2_N` that uv knows by name; wheels for it run on a newer one too."""


@dataclass(frozen=True, slots=True)
class RootRecipe:
    """What a build root consists of."""

    image: str
    suite: str
    extra: tuple[str, ...] = ()

    def packages(self) -> tuple[str, ...]:
        """Names of the packages asked for; what they depend on comes along."""
        return tuple(sorted({*_PACKAGES, *self.extra}))

    @property
    def shelf(self) -> str:
        """Where such roots lie in the cache."""
        return f"root-{self.image}"

    def digest(self) -> str:
        """Of what is known without a network: the packages asked for, and how they are installed."""
        how = file_digest(Path(rootfs.__file__))
        return inputs_digest({"image": self.image, "suite": self.suite, "packages": self.packages(), "how": how})


class RootRecord(BaseModel):
    """What is written beside a root."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str
    recipe_digest: str
    packages: dict[str, str]
    """Name and version of every package in it."""
    built_at: datetime


@dataclass(frozen=True, slots=True)
class BuildRoot:
    """A root on the shelf, or one that is still to be built: what it consists of is known either way."""

    recipe: RootRecipe
    record: RootRecord
    digest: str
    archive: Path
    note: str = ""

    @property
    def python(self) -> str:
        """Version of its Python, such as 3.11."""
        versions = [match[1] for name in self.record.packages if (match := re.fullmatch(r"python(3\.\d+)", name))]
        if not versions:
            raise MalformedReply(f"the packages of {self.recipe.image} have no Python 3")
        return max(versions, key=lambda text: tuple(map(int, text.split("."))))

    @property
    def platform(self) -> str:
        """The platform as uv calls it: by the C library, whose version decides which wheels run."""
        match = re.match(r"2\.(\d+)", self.record.packages.get("libc6", ""))
        if match is None:
            raise MalformedReply(f"the packages of {self.recipe.image} have no C library of GNU")
        return f"{platform.machine()}-manylinux_2_{min(int(match[1]), _NEWEST_GLIBC)}"


def root_recipe(image: str, *, extra: tuple[str, ...] = ()) -> RootRecipe:
    """What bundles for the operating system image `image` are built in. Raises NotFound with the known images."""
    return RootRecipe(image=image, suite=recipe_named(image).suite, extra=extra)


def current_root(recipe: RootRecipe, cache: Path) -> BuildRoot:
    """The root as the package archive would make it now; nothing is built. Takes seconds, safe to repeat.

    When the archive cannot be asked it is the newest one on the shelf, and its `note` says so; Unreachable without one.
    """
    try:
        packages = rootfs.resolve(recipe, discover_archive()).packages
    except Unreachable as error:
        return _newest(recipe, cache, error)
    record = RootRecord(
        image=recipe.image, recipe_digest=recipe.digest(), packages=packages, built_at=datetime.now(UTC)
    )
    digest = _digest(record)
    return BuildRoot(recipe, record, digest, cache / recipe.shelf / digest / _ARCHIVE)


def ensure_root(root: BuildRoot, cache: Path, progress: Progress) -> None:
    """The root's archive is on the shelf, older ones are gone. Safe to repeat.

    Takes half a minute and 400 MB of scratch space when it is not there; waits for another build that is making it.
    Raises Unreachable, Rejected, and Conflict after a quarter of an hour of waiting.
    """
    with _alone(cache, root.recipe, progress):
        if not root.archive.is_file():
            progress(f"{root.recipe.image}: installing the build root")
            _make(root, cache)
        for old in (cache / root.recipe.shelf).iterdir():
            if old.is_dir() and old != root.archive.parent:
                rmtree(old)


@contextmanager
def _alone(cache: Path, recipe: RootRecipe, progress: Progress) -> Iterator[None]:
    deadline = time.monotonic() + _PATIENCE_S
    told = False
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(build_lock(cache, recipe.shelf))
                break
            except Conflict:
                if time.monotonic() > deadline:
                    raise
            if not told:
                progress(f"{recipe.image}: waiting for another build, which makes the build root")
                told = True
            time.sleep(1)  # between two looks at the lock
        yield


def _make(root: BuildRoot, cache: Path) -> None:
    with work_directory(cache, root.recipe.shelf) as work:
        finished = work / "finished"
        finished.mkdir()
        rootfs.unpack(root.recipe, discover_archive(), target=finished / _ARCHIVE)
        (finished / _RECORD).write_text(root.record.model_dump_json(indent=2) + "\n", encoding="utf-8")
        publish(finished, root.archive.parent)


def unpack_root(root: BuildRoot, target: Path) -> None:
    """The directory `target` is the root file system."""
    target.mkdir()
    target.chmod(0o755)  # whatever the umask: the builder works in it
    run_tool(
        ["tar", "--extract", "--zstd", "--numeric-owner", "--file", str(root.archive), "--directory", str(target)],
        timeout_s=600,
    )


def _digest(record: RootRecord) -> str:
    return inputs_digest({"recipe": record.recipe_digest, "packages": record.packages})


def _newest(recipe: RootRecipe, cache: Path, cause: Unreachable) -> BuildRoot:
    found = []
    for path in (cache / recipe.shelf).glob(f"*/{_RECORD}"):
        try:
            record = RootRecord.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            continue  # no root that can be used: another one, or the cause below
        if record.recipe_digest == recipe.digest():
            found.append((record, path.parent))
    if not found:
        raise cause
    record, directory = max(found, key=lambda each: each[0].built_at)
    built = record.built_at.strftime("%Y-%m-%d %H:%M UTC")
    note = f"the package archive could not be asked for updates; the build root is that of {built}"
    return BuildRoot(recipe, record, _digest(record), directory / _ARCHIVE, note)
