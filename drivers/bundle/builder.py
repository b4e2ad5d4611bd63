"""Builds a bundle once and keeps it until its inputs change: one relocatable environment for all of a release."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from drivers import artifacts
from drivers.artifacts.command import require_root, require_tools
from drivers.artifacts.shelf import build_lock, file_digest, inputs_digest, publish, source_digest, work_directory
from drivers.bundle import packing, wheelhouse
from drivers.bundle.catalog import BUNDLE_FILE, MANIFEST_FILE, Bundle, shelf_of, verify_bundle
from drivers.bundle.root import BuildRoot, current_root, ensure_root, root_recipe, unpack_root
from drivers.bundle.sandbox import Sandbox, os_packages
from drivers.bundle.tool import uv_binary
from levier.domain.errors import InvalidRequest, NotFound, Rejected
from levier.domain.release import ROOT, BundleManifest, Release

Progress = Callable[[str], None]

_TOOLS = {
    "apt-get": "apt",
    "chroot": "coreutils",
    "dpkg-query": "dpkg",
    "mmdebstrap": "mmdebstrap",
    "setpriv": "util-linux",
    "tar": "tar",
    "unshare": "util-linux",
    "zstd": "zstd",
}
_HERE = Path(__file__).parent
_WORK = "/levier"
_COMPILER = "byte_code.py"
_CACHE_NOTE = "uv_cache.json"
_CLUTTER = (".lock", ".gitignore", "CACHEDIR.TAG")
"""What uv leaves in an environment for itself."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is built, in which root, from what."""

    release: Release
    root: BuildRoot
    digest: str

    @property
    def location(self) -> str:
        return f"{ROOT}/releases/{self.release.name}-{self.digest[:8]}"

    @property
    def label(self) -> str:
        return f"{self.release.name} for {self.root.recipe.image}"

    @property
    def target(self) -> wheelhouse.Target:
        return wheelhouse.Target(self.root.python, self.root.platform)


def build_bundle(release: Release, image: str, cache: Path, progress: Progress) -> Bundle:
    """The bundle of `release` for `image` is on the shelf, built anew only when its inputs changed, and verified.

    Inputs: both locks, the packages of the build root as the archive offers them now, uv, and this builder. When the
    archive cannot be reached the root of an earlier build serves, and the bundle's `note` says so. Needs root; takes a
    minute or two and 2 GB of scratch space for all of OpenStack. Safe to repeat, and to interrupt: nothing half-built
    is ever seen. Raises InvalidRequest (not for this image, tool missing, not root), NotFound (no such image), Conflict
    (the same bundle is being built), Unreachable (no archive, no package index), Rejected (a build step failed).
    """
    require_root("building a release")
    require_tools(_TOOLS)
    recipe = root_recipe(image, extra=release.spec.build_os_packages)
    if image not in release.spec.images:
        raise InvalidRequest(
            f"release {release.name} is not for {image}", hint=f"it is for: {', '.join(release.spec.images)}"
        )
    cache.mkdir(parents=True, exist_ok=True)
    with build_lock(cache, shelf_of(release.name, image)):
        progress(f"{release.name} for {image}: asking the package archive")
        root = current_root(recipe, cache)
        plan = _Plan(release, root, _digest(release, root))
        present = _present(cache / shelf_of(release.name, image) / plan.digest, progress)
        if present is not None:
            progress(f"{plan.label}: up to date")
            return replace(present, note=root.note)
        return replace(_build(plan, cache, progress), note=root.note)


def _digest(release: Release, root: BuildRoot) -> str:
    return inputs_digest(
        {
            "lock": release.lock.digest,
            "build_lock": release.build_lock.digest,
            "root": root.digest,
            "uv": file_digest(uv_binary()),
            "builder": source_digest(_HERE, Path(artifacts.__file__).parent, without="host"),
        }
    )


def _present(directory: Path, progress: Progress) -> Bundle | None:
    try:
        return verify_bundle(directory)
    except NotFound:
        return None
    except Rejected as error:
        progress(f"{error.message}; building it again")
        return None


def _build(plan: _Plan, cache: Path, progress: Progress) -> Bundle:
    shelf = shelf_of(plan.release.name, plan.root.recipe.image)
    ensure_root(plan.root, cache, progress)
    with work_directory(cache, shelf) as work:
        finished = work / "finished"
        finished.mkdir()
        wheels = _wheels(plan, cache, work, progress)
        sandbox = _prepare(plan, work, wheels)
        count = len(plan.release.lock.packages)
        with _timed(progress, f"{plan.label}: installing {count} packages"):
            _install(plan, sandbox)
        with _timed(progress, f"{plan.label}: compiling to byte code"):
            _compile(plan, sandbox)
        needed = os_packages(sandbox, plan.location)
        content = sandbox.inside(plan.location)
        extent = packing.measure(content)
        with _timed(progress, f"{plan.label}: packing {extent.files} files, {extent.bytes / 2**20:.0f} MiB"):
            packing.pack(content, finished / BUNDLE_FILE)
        manifest = _manifest(plan, finished / BUNDLE_FILE, extent=extent, needed=needed)
        (finished / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        # First, because flushing the archive would write these two gigabytes out with it.
        shutil.rmtree(sandbox.root)
        target = cache / shelf / plan.digest
        publish(finished, target)
    progress(f"{plan.label}: done, {manifest.size_bytes / 2**20:.0f} MiB")
    return Bundle(manifest, target / BUNDLE_FILE)


@contextmanager
def _timed(progress: Progress, what: str) -> Iterator[None]:
    progress(what)
    began = time.monotonic()
    yield
    progress(f"{what}: {time.monotonic() - began:.1f} s")


def _wheels(plan: _Plan, cache: Path, work: Path, progress: Progress) -> tuple[Path, ...]:
    """The files of both locks, verified. In the store they stay for the next build."""
    files: list[wheelhouse.RemoteFile] = []
    for name, lock in (("delivered", plan.release.lock), ("tools", plan.release.build_lock)):
        directory = work / name
        directory.mkdir()
        files += wheelhouse.locate(lock, plan.target, directory)
    with _timed(progress, f"{plan.label}: {len(files)} files from the package index"):
        paths = wheelhouse.fetch(files, cache / "files", progress)
        wheelhouse.verify(paths)
    return paths


def _prepare(plan: _Plan, work: Path, wheels: Iterable[Path]) -> Sandbox:
    """The root with uv, the locks, and the wheels; the builder may write its home, the cache and the result."""
    sandbox = Sandbox(work / "root")
    unpack_root(plan.root, sandbox.root)
    # /dev/shm holds the semaphores of Python's process pools.
    for directory in (_WORK, f"{_WORK}/home", f"{_WORK}/cache", "/dev/shm", plan.location):  # noqa: S108
        sandbox.make_directory(directory)
    store = sandbox.make_directory(f"{_WORK}/wheels", owner=0)
    for wheel in wheels:
        if not (store / wheel.name).exists():
            os.link(wheel, store / wheel.name)
    sandbox.add(uv_binary(), f"{_WORK}/uv", mode=0o755)
    sandbox.write(f"{_WORK}/lock.txt", plan.release.lock.text)
    sandbox.write(f"{_WORK}/build.txt", plan.release.build_lock.text)
    return sandbox


def _install(plan: _Plan, sandbox: Sandbox) -> None:
    uv, python = f"{_WORK}/uv", f"{plan.location}/bin/python"
    interpreter = f"/usr/bin/python{plan.root.python}"
    sandbox.run([uv, "venv", "--quiet", "--relocatable", "--python", interpreter, plan.location], timeout_s=120)
    source = ["--no-index", "--find-links", f"{_WORK}/wheels", "--no-deps", "--require-hashes"]
    locks = ["--build-constraints", f"{_WORK}/build.txt", "--requirements", f"{_WORK}/lock.txt"]
    sandbox.run([uv, "pip", "install", "--quiet", "--python", python, *source, *locks], timeout_s=1800)
    sandbox.run([uv, "pip", "check", "--quiet", "--python", python], timeout_s=120)
    for name in _CLUTTER:
        sandbox.inside(f"{plan.location}/{name}").unlink(missing_ok=True)
    _forget_cache(sandbox.inside(plan.location))


def _forget_cache(environment: Path) -> None:
    """No package has uv's notes on when its file was cached, which differ from build to build."""
    for note in environment.glob(f"lib/python3*/site-packages/*.dist-info/{_CACHE_NOTE}"):
        note.unlink()
        record = note.with_name("RECORD")
        lines = record.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if not line.startswith(f"{note.parent.name}/{_CACHE_NOTE},")]
        record.write_text("".join(kept), encoding="utf-8")


def _compile(plan: _Plan, sandbox: Sandbox) -> None:
    """Byte code beside every module but tests: services may not write there, and would compile at every start.

    Valid whatever the files' times say (PEP 552, unchecked hashes), because all of them are set to one. What is no
    valid Python is left alone: templates and samples of packages, which nobody imports.
    """
    sandbox.add(_HERE / _COMPILER, f"{_WORK}/{_COMPILER}")
    python, library = f"{plan.location}/bin/python", f"{plan.location}/lib"
    sandbox.run([python, "-B", "-I", f"{_WORK}/{_COMPILER}", library], timeout_s=1200)


def _manifest(plan: _Plan, archive: Path, *, extent: packing.Extent, needed: tuple[str, ...]) -> BundleManifest:
    return BundleManifest(
        release=plan.release.name,
        image=plan.root.recipe.image,
        python=plan.root.python,
        architecture=platform.machine(),
        sha256=file_digest(archive),
        size_bytes=archive.stat().st_size,
        unpacked_bytes=extent.bytes,
        files=extent.files,
        packages=plan.release.lock.versions(),
        os_packages=tuple(sorted({*needed, f"python{plan.root.python}"})),
        built_at=datetime.now(UTC),
        lock_digest=plan.release.lock.digest,
        inputs_digest=plan.digest,
    )
