"""Builds an image once and keeps it until its inputs change."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from drivers import artifacts
from drivers.artifacts.archive import Archive, discover_archive
from drivers.artifacts.command import require_files, require_root, require_tools, run_tool
from drivers.artifacts.shelf import build_lock, file_digest, inputs_digest, publish, source_digest, work_directory
from drivers.images import bootloader, content, layout, rootfs
from drivers.images.catalog import IMAGE_FILE, RECORD_FILE, BuiltImage, ImageRecord, list_images, verify_image
from drivers.images.recipe import ImageRecipe
from levier.domain.errors import NotFound, Rejected, Unreachable

Progress = Callable[[str], None]

_ROOT_UUIDS = uuid.UUID("1c6a0d0e-5b0e-4a43-9f43-5d6c1c0c7d11")
_COMPRESSION_LEVEL = 9
_TOOLS = {
    "apt-get": "apt",
    "du": "coreutils",
    "grub-mkimage": "grub-common",
    "mcopy": "mtools",
    "mke2fs": "e2fsprogs",
    "mkfs.vfat": "dosfstools",
    "mmdebstrap": "mmdebstrap",
    "setpriv": "util-linux",
    "sfdisk": "fdisk",
    "unshare": "util-linux",
    "zstd": "zstd",
}
_FILES = {
    f"{bootloader.BIOS_DIRECTORY}/boot.img": "grub-pc-bin",
    f"{bootloader.EFI_DIRECTORY}/modinfo.sh": "grub-efi-amd64-bin",
}
_BOOT_LOADER_PACKAGES = ("grub-pc-bin", "grub-efi-amd64-bin")


@dataclass(frozen=True, slots=True)
class _Inputs:
    """Everything that decides what an image becomes."""

    recipe_digest: str
    digest: str


def build_image(recipe: ImageRecipe, cache: Path, progress: Progress) -> BuiltImage:
    """The image of `recipe` is on the shelf, built anew only when its inputs changed; its file is verified.

    Inputs: the recipe, this builder, the boot loader, and the package versions the archive offers now. When the archive
    cannot be reached an image of the same recipe and builder is kept, and its `note` says so. Needs root; takes about a
    minute and 2 GB of scratch space. Safe to repeat, and to interrupt: nothing half-built is ever seen. Raises
    InvalidRequest (tool missing, not root), Conflict (the same image is being built), Unreachable (no archive and no
    earlier image), Rejected (a build step failed).
    """
    require_root("building an image")
    require_tools(_TOOLS)
    require_files(_FILES)
    with build_lock(cache, recipe.name):
        archive = discover_archive()
        recipe_digest = _recipe_digest(recipe)
        progress(f"{recipe.name}: asking the package archive")
        try:
            resolution = rootfs.resolve(recipe, archive)
        except Unreachable as error:
            return _keep(cache, recipe, recipe_digest, error)
        digest = inputs_digest({"recipe": recipe_digest, "packages": resolution.packages})
        present = _present(cache / recipe.name / digest, progress)
        if present is not None:
            progress(f"{recipe.name}: up to date")
            return present
        return _build(recipe, archive, cache, _Inputs(recipe_digest, digest), progress)


def _recipe_digest(recipe: ImageRecipe) -> str:
    here = Path(__file__).parent
    versions = run_tool(["dpkg-query", "-W", "-f", "${Package} ${Version}\n", *_BOOT_LOADER_PACKAGES], timeout_s=60)
    return inputs_digest(
        {
            "recipe": recipe.inputs(),
            "builder": source_digest(here, Path(artifacts.__file__).parent, without="seed"),
            "boot_loader": sorted(versions.splitlines()),
        }
    )


def _present(directory: Path, progress: Progress) -> BuiltImage | None:
    try:
        return verify_image(directory)
    except NotFound:
        return None
    except Rejected as error:
        progress(f"{error.message}; building it again")
        return None


def _keep(cache: Path, recipe: ImageRecipe, recipe_digest: str, cause: Unreachable) -> BuiltImage:
    for image in list_images(cache):
        if image.name == recipe.name and image.record.recipe_digest == recipe_digest:
            built = image.record.built_at.strftime("%Y-%m-%d %H:%M UTC")
            note = f"the package archive could not be asked for updates; this is the image built {built}"
            return replace(verify_image(image.path), note=note)
    raise cause


def _build(recipe: ImageRecipe, archive: Archive, cache: Path, inputs: _Inputs, progress: Progress) -> BuiltImage:
    with work_directory(cache, recipe.name) as work:
        root, raw, finished = work / "root", work / "disk.raw", work / "finished"
        finished.mkdir()
        root_uuid = str(uuid.uuid5(_ROOT_UUIDS, inputs.digest))
        progress(f"{recipe.name}: installing packages")
        rootfs.unpack(recipe, archive, target=root)
        packages = rootfs.installed(root)
        if recipe.extra:
            content.keep_still(root, packages.keys() - rootfs.resolve(recipe.plain, archive).packages.keys())
        content.furnish(root, suite=recipe.suite, root_uuid=root_uuid)
        progress(f"{recipe.name}: writing file systems")
        disk = layout.layout_for(layout.measure_content(root))
        _assemble(raw, disk, content_root=root, root_uuid=root_uuid)
        progress(f"{recipe.name}: compressing")
        _compress(raw, finished / IMAGE_FILE)
        known = {"packages": packages, "raw_size_bytes": disk.raw_bytes}
        record = _record(recipe, inputs, finished / IMAGE_FILE, known)
        (finished / RECORD_FILE).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
        target = cache / recipe.name / inputs.digest
        publish(finished, target)
    progress(f"{recipe.name}: done, {record.size_bytes / 1e6:.0f} MB")
    return BuiltImage(record=record, path=target / IMAGE_FILE)


def _assemble(raw: Path, disk: layout.DiskLayout, *, content_root: Path, root_uuid: str) -> None:
    layout.make_disk(raw, disk)
    layout.make_root(raw, disk, content=content_root, root_uuid=root_uuid)
    layout.make_esp(raw, disk, loader=bootloader.efi_loader(raw.parent), work=raw.parent)
    bootloader.install_bios(raw, disk, work=raw.parent)


def _compress(raw: Path, target: Path) -> None:
    run_tool(
        ["zstd", "--quiet", "--threads=0", "--check", f"-{_COMPRESSION_LEVEL}", str(raw), "-o", str(target)],
        timeout_s=1800,
    )


def _record(recipe: ImageRecipe, inputs: _Inputs, image: Path, known: dict[str, Any]) -> ImageRecord:
    kernel = next(
        name for name in known["packages"] if name.startswith("linux-image-6") or name.startswith("linux-image-5")
    )
    return ImageRecord(
        name=recipe.name,
        suite=recipe.suite,
        kernel=str(recipe.kernel),
        kernel_version=kernel.removeprefix("linux-image-"),
        sha256=file_digest(image),
        size_bytes=image.stat().st_size,
        built_at=datetime.now(UTC),
        inputs_digest=inputs.digest,
        recipe_digest=inputs.recipe_digest,
        **known,
    )
