"""Builds the guest once and keeps it until its inputs change. The same inputs give the same bytes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from drivers import artifacts
from drivers.artifacts.command import require_files, require_tools, run_tool
from drivers.artifacts.shelf import build_lock, file_digest, inputs_digest, publish, source_digest, work_directory
from drivers.images.recipe import KernelFlavour
from drivers.ramdisk.kernel import KernelPackage, copy_kernel, find_kernel, unpack_kernel
from drivers.ramdisk.modules import copy_modules
from levier.domain.errors import MalformedReply, NotFound, Rejected, Unreachable

Progress = Callable[[str], None]

NAME = "smoke-guest"
KERNEL_FILE, RAMDISK_FILE, RECORD_FILE = "kernel", "ramdisk", "guest.json"
BUSYBOX = "/bin/busybox"
_MODULES = (
    "kernel/drivers/block/virtio_blk",
    "kernel/drivers/char/hw_random/virtio-rng",
    "kernel/drivers/net/virtio_net",
    "kernel/drivers/virtio/virtio_pci",
)
_DIRECTORIES = ("bin", "dev", "etc/modprobe.d", "lib", "proc", "run", "sys")
_TOOLS = {
    "apt-get": "apt",
    "cpio": "cpio",
    "depmod": "kmod",
    "dpkg-deb": "dpkg",
    "setpriv": "util-linux",
    "xz": "xz-utils",
    "zstd": "zstd",
}
# A switch in a process computes no checksums that virtio leaves out (docs/decisions/0170).
_MODULE_OPTIONS = "options virtio_net csum=0 gso=0\n"
_COMPRESSION_LEVEL = 15


class GuestRecord(BaseModel):
    """What is written beside a guest. Sizes in bytes, digests lower-case hexadecimal SHA-256."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kernel_version: str
    kernel_sha256: str
    kernel_size_bytes: int
    ramdisk_sha256: str
    ramdisk_size_bytes: int
    built_at: datetime
    inputs_digest: str
    recipe_digest: str


@dataclass(frozen=True, slots=True)
class BuiltGuest:
    """A finished guest: the kernel, and the ramdisk that is all of its system."""

    record: GuestRecord
    kernel_path: Path
    ramdisk_path: Path
    note: str = ""
    """What the operator should know about this build."""


def build_guest(cache: Path, progress: Progress) -> BuiltGuest:
    """The guest is on the shelf, built anew only when its inputs changed; both files are verified.

    Inputs: this builder and its scripts, this machine's busybox, and the kernel for virtual machines that apt offers
    here. When a newer kernel cannot be fetched the last build is kept, and its `note` says so. Takes some seconds;
    needs no root. Safe to repeat and to interrupt. Raises InvalidRequest (tool missing, apt knows no kernel), Conflict
    (one is being built), Unreachable (kernel cannot be fetched, and there is no earlier build), Rejected (a step
    failed).
    """
    require_tools(_TOOLS)
    require_files({BUSYBOX: "busybox-static"})
    with build_lock(cache, NAME):
        package, recipe = find_kernel(KernelFlavour.CLOUD), _recipe_digest()
        digest = inputs_digest({"recipe": recipe, "kernel": [package.name, package.version]})
        present = _present(cache / NAME / digest, progress)
        if present is not None:
            return present
        try:
            return _build(package, recipe, cache / NAME / digest, progress)
        except Unreachable as error:
            return _keep(cache, recipe, error)


def list_guests(cache: Path) -> tuple[BuiltGuest, ...]:
    """All guests on the shelf, newest first. Their files are not read; see `verify_guest`."""
    found = [_read(p.parent) for p in cache.glob(f"{NAME}/*/{RECORD_FILE}") if not p.parent.name.startswith(".")]
    return tuple(sorted(found, key=lambda built: -built.record.built_at.timestamp()))


def verify_guest(built: BuiltGuest) -> BuiltGuest:
    """Kernel and ramdisk are byte for byte what was built. Raises Rejected if not, NotFound when a file is missing."""
    for path, digest in (
        (built.kernel_path, built.record.kernel_sha256),
        (built.ramdisk_path, built.record.ramdisk_sha256),
    ):
        if not path.exists():
            raise NotFound(f"{path} is missing", hint="build the guest again")
        if file_digest(path) != digest:
            raise Rejected(f"{path} is not what was built", hint=f"remove {path.parent}: it is built again")
    return built


def _recipe_digest() -> str:
    versions = run_tool(["dpkg-query", "-W", "-f", "${Package} ${Version}\n", "busybox-static", "zstd"], timeout_s=60)
    sources = source_digest(Path(__file__).parent, Path(artifacts.__file__).parent)
    return inputs_digest({"builder": sources, "programs": sorted(versions.splitlines())})


def _read(directory: Path) -> BuiltGuest:
    try:
        record = GuestRecord.model_validate_json((directory / RECORD_FILE).read_bytes())
    except FileNotFoundError as error:
        raise NotFound(f"there is no guest in {directory}") from error
    except ValidationError as error:
        raise MalformedReply(f"{directory / RECORD_FILE} is no guest's record", hint=f"remove {directory}") from error
    return BuiltGuest(record=record, kernel_path=directory / KERNEL_FILE, ramdisk_path=directory / RAMDISK_FILE)


def _present(directory: Path, progress: Progress) -> BuiltGuest | None:
    try:
        return verify_guest(_read(directory))
    except NotFound:
        return None
    except Rejected as error:
        progress(f"{error.message}; building it again")
        return None


def _keep(cache: Path, recipe: str, cause: Unreachable) -> BuiltGuest:
    for built in list_guests(cache):
        if built.record.recipe_digest == recipe:
            note = f"a newer kernel could not be fetched; this guest has {built.record.kernel_version}"
            return replace(verify_guest(built), note=note)
    raise cause


def _build(package: KernelPackage, recipe: str, target: Path, progress: Progress) -> BuiltGuest:
    with work_directory(target.parent.parent, NAME) as work:
        root, finished = work / "root", work / "finished"
        finished.mkdir()
        progress(f"smoke guest: fetching kernel {package.release}")
        unpacked = unpack_kernel(package, work=work)
        _copy_system(root)
        copy_modules(unpacked, root, version=package.release, prefixes=_MODULES)
        copy_kernel(unpacked, package, target=finished / KERNEL_FILE)
        _pack(root, finished / RAMDISK_FILE)
        record = GuestRecord(
            kernel_version=package.release,
            kernel_sha256=file_digest(finished / KERNEL_FILE),
            kernel_size_bytes=(finished / KERNEL_FILE).stat().st_size,
            ramdisk_sha256=file_digest(finished / RAMDISK_FILE),
            ramdisk_size_bytes=(finished / RAMDISK_FILE).stat().st_size,
            built_at=datetime.now(UTC),
            inputs_digest=target.name,
            recipe_digest=recipe,
        )
        (finished / RECORD_FILE).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
        publish(finished, target)
    progress(f"smoke guest: done, {(record.kernel_size_bytes + record.ramdisk_size_bytes) / 1e6:.0f} MB")
    return _read(target)


def _copy_system(root: Path) -> None:
    """`root` has busybox with all of its names, and the guest's scripts."""
    for name in _DIRECTORIES:
        (root / name).mkdir(parents=True)
    (root / "sbin").symlink_to("bin")
    shutil.copyfile(BUSYBOX, root / "bin/busybox")
    (root / "bin/busybox").chmod(0o755)
    for applet in run_tool([BUSYBOX, "--list"], timeout_s=30).split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    for script, name in (("init.sh", "init"), ("lease.sh", "lease.sh")):
        (root / name).write_text(files("drivers.guest").joinpath(script).read_text(encoding="utf-8"), encoding="utf-8")
        (root / name).chmod(0o755)
    (root / "etc/modprobe.d/levier.conf").write_text(_MODULE_OPTIONS, encoding="utf-8")


def _pack(root: Path, target: Path) -> None:
    """The archive says nothing about when and where it was made."""
    paths = sorted(root.rglob("*"))
    for path in paths:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        os.utime(path, (0, 0), follow_symlinks=False)
    names = "\0".join(str(path.relative_to(root)) for path in paths)
    archive = target.with_suffix(".cpio")
    run_tool(
        [*("cpio", "--null", "--create", "--format=newc", "--owner=0:0"), "--reproducible", "--quiet", f"-F{archive}"],
        stdin=names.encode(),
        cwd=root,
        timeout_s=300,
    )
    # The kernel's unpacker wants windows of at most 8 MiB (lib/decompress_unzstd.c), which these levels keep to.
    command = ["zstd", "--quiet", f"-{_COMPRESSION_LEVEL}", "--rm", str(archive), "-o", str(target)]
    run_tool(command, timeout_s=300)
