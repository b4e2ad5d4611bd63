"""Builds the deploy ramdisk once and keeps it until its inputs change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from drivers import artifacts
from drivers.artifacts.command import require_files, require_root, require_tools, run_tool
from drivers.artifacts.shelf import build_lock, file_digest, inputs_digest, publish, source_digest, work_directory
from drivers.images.recipe import KernelFlavour
from drivers.ramdisk.kernel import KernelPackage, copy_kernel, find_kernel, unpack_kernel
from drivers.ramdisk.modules import DriverSet, copy_modules, prefixes_of
from drivers.ramdisk.userland import BUSYBOX, TOOLS, copy_userland
from levier.domain.errors import MalformedReply, NotFound, Rejected, Unreachable

Progress = Callable[[str], None]

NAME = "ramdisk"
KERNEL_FILE, RAMDISK_FILE, RECORD_FILE = "kernel", "ramdisk", "ramdisk.json"
_TOOL_PACKAGES = {
    "apt-get": "apt",
    "cpio": "cpio",
    "depmod": "kmod",
    "dpkg-deb": "dpkg",
    "ldd": "libc-bin",
    "setpriv": "util-linux",
    "xz": "xz-utils",
    **TOOLS,
}
_COMPRESSION_LEVEL = 15


class RamdiskRecord(BaseModel):
    """What is written beside a ramdisk. Sizes in bytes, digests lower-case hexadecimal SHA-256."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kernel: str
    kernel_version: str
    drivers: str
    modules: int
    kernel_sha256: str
    kernel_size_bytes: int
    ramdisk_sha256: str
    ramdisk_size_bytes: int
    built_at: datetime
    inputs_digest: str
    recipe_digest: str
    imported_at: datetime | None = None
    """When it was taken in from another machine's bundle; None for one that was built here."""

    @property
    def since(self) -> datetime:
        """Since when it is on this shelf: the newest is the one that is served."""
        return self.imported_at or self.built_at


@dataclass(frozen=True, slots=True)
class BuiltRamdisk:
    """A finished ramdisk and the kernel it belongs to."""

    record: RamdiskRecord
    kernel_path: Path
    ramdisk_path: Path
    note: str = ""
    """What the operator should know about this build."""


@dataclass(frozen=True, slots=True)
class _Recipe:
    kernel: KernelFlavour
    drivers: DriverSet
    digest: str


def build_ramdisk(
    cache: Path,
    progress: Progress,
    *,
    kernel: KernelFlavour = KernelFlavour.GENERIC,
    drivers: DriverSet = DriverSet.ALL,
) -> BuiltRamdisk:
    """Kernel and deploy ramdisk are on the shelf, built anew only when their inputs changed; both files are verified.

    Inputs: kernel flavour and driver set, this builder and the agent, the programs taken from this machine, and the
    kernel version apt offers. When a newer kernel cannot be fetched the last build is kept, and its `note` says so.
    Needs root; takes half a minute. Safe to repeat and to interrupt. Raises InvalidRequest (tool missing, not root, apt
    knows no kernel), Conflict (one is being built), Unreachable (kernel cannot be fetched and there is no earlier
    build), Rejected (a build step failed).
    """
    require_root("building the deploy ramdisk")
    require_tools(_TOOL_PACKAGES)
    require_files({BUSYBOX: "busybox-static"})
    with build_lock(cache, NAME):
        package = find_kernel(kernel)
        recipe = _Recipe(kernel, drivers, _recipe_digest(kernel, drivers))
        digest = inputs_digest({"recipe": recipe.digest, "kernel": [package.name, package.version]})
        present = _present(cache / NAME / digest, progress)
        if present is not None:
            progress("ramdisk: up to date")
            return present
        try:
            return _build(recipe, package, cache / NAME / digest, progress)
        except Unreachable as error:
            return _keep(cache, recipe.digest, error)


def list_ramdisks(cache: Path) -> tuple[BuiltRamdisk, ...]:
    """All ramdisks on the shelf, newest first. Their files are not read; see `verify_ramdisk`."""
    found = [
        read_ramdisk(path.parent)
        for path in cache.glob(f"{NAME}/*/{RECORD_FILE}")
        if not path.parent.name.startswith(".")
    ]
    return tuple(sorted(found, key=lambda built: -built.record.since.timestamp()))


def verify_ramdisk(built: BuiltRamdisk) -> BuiltRamdisk:
    """Kernel and ramdisk are byte for byte what was built. Raises Rejected if not, NotFound when a file is missing."""
    for path, digest in (
        (built.kernel_path, built.record.kernel_sha256),
        (built.ramdisk_path, built.record.ramdisk_sha256),
    ):
        if not path.exists():
            raise NotFound(f"{path} is missing", hint="build the ramdisk again")
        if file_digest(path) != digest:
            raise Rejected(f"{path} is not what was built", hint="build the ramdisk again")
    return built


def _recipe_digest(kernel: KernelFlavour, drivers: DriverSet) -> str:
    packages = sorted({"busybox-static", *TOOLS.values()})
    versions = run_tool(["dpkg-query", "-W", "-f", "${Package} ${Version}\n", *packages], timeout_s=60)
    return inputs_digest(
        {
            "kernel": str(kernel),
            "drivers": str(drivers),
            "builder": source_digest(Path(__file__).parent, Path(artifacts.__file__).parent),
            "programs": sorted(versions.splitlines()),
        }
    )


def read_ramdisk(directory: Path) -> BuiltRamdisk:
    """The ramdisk in one directory of the shelf. Raises NotFound, MalformedReply for an unreadable record."""
    try:
        record = RamdiskRecord.model_validate_json((directory / RECORD_FILE).read_bytes())
    except FileNotFoundError as error:
        raise NotFound(f"there is no ramdisk in {directory}") from error
    except ValidationError as error:
        raise MalformedReply(f"{directory / RECORD_FILE} is no ramdisk record", hint=f"remove {directory}") from error
    return BuiltRamdisk(record=record, kernel_path=directory / KERNEL_FILE, ramdisk_path=directory / RAMDISK_FILE)


def _present(directory: Path, progress: Progress) -> BuiltRamdisk | None:
    try:
        return verify_ramdisk(read_ramdisk(directory))
    except NotFound:
        return None
    except Rejected as error:
        progress(f"{error.message}; building it again")
        return None


def _keep(cache: Path, recipe_digest: str, cause: Unreachable) -> BuiltRamdisk:
    for built in list_ramdisks(cache):
        if built.record.recipe_digest == recipe_digest:
            note = f"a newer kernel could not be fetched; this ramdisk has {built.record.kernel_version}"
            return replace(verify_ramdisk(built), note=note)
    raise cause


def _build(recipe: _Recipe, package: KernelPackage, target: Path, progress: Progress) -> BuiltRamdisk:
    with work_directory(target.parent.parent, NAME) as work:
        root, finished = work / "root", work / "finished"
        root.mkdir()
        finished.mkdir()
        progress(f"ramdisk: fetching kernel {package.release}")
        unpacked = unpack_kernel(package, work=work)
        progress(f"ramdisk: gathering drivers ({recipe.drivers})")
        copy_userland(root)
        modules = copy_modules(unpacked, root, version=package.release, prefixes=prefixes_of(recipe.drivers))
        copy_kernel(unpacked, package, target=finished / KERNEL_FILE)
        progress("ramdisk: compressing")
        _pack(root, finished / RAMDISK_FILE)
        record = RamdiskRecord(
            kernel=str(recipe.kernel),
            kernel_version=package.release,
            drivers=str(recipe.drivers),
            modules=modules,
            kernel_sha256=file_digest(finished / KERNEL_FILE),
            kernel_size_bytes=(finished / KERNEL_FILE).stat().st_size,
            ramdisk_sha256=file_digest(finished / RAMDISK_FILE),
            ramdisk_size_bytes=(finished / RAMDISK_FILE).stat().st_size,
            built_at=datetime.now(UTC),
            inputs_digest=target.name,
            recipe_digest=recipe.digest,
        )
        (finished / RECORD_FILE).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
        publish(finished, target)
    progress(f"ramdisk: done, {record.ramdisk_size_bytes / 1e6:.0f} MB, {modules} modules")
    return read_ramdisk(target)


def _pack(root: Path, target: Path) -> None:
    names = "\0".join(sorted(str(path.relative_to(root)) for path in root.rglob("*")))
    archive = target.with_suffix(".cpio")
    run_tool(
        ["cpio", "--null", "--create", "--format=newc", "--owner=0:0", "--quiet", f"--file={archive}"],
        stdin=names.encode(),
        cwd=root,
        timeout_s=300,
    )
    # The kernel's unpacker wants windows of at most 8 MiB (lib/decompress_unzstd.c), which these levels keep to.
    run_tool(
        ["zstd", "--quiet", "--threads=0", f"-{_COMPRESSION_LEVEL}", "--rm", str(archive), "-o", str(target)],
        timeout_s=900,
    )
