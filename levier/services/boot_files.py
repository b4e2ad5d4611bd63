"""The files a node boots from: the deploy ramdisk and the images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from drivers.images.catalog import list_images
from drivers.ramdisk import build_ramdisk, list_ramdisks, verify_ramdisk
from levier.domain.errors import NotFound
from levier.services.boot_agents import BootAgents, BootServices
from levier.services.settings import Settings


def ensure_ramdisk(settings: Settings, progress: Callable[[str], None]) -> None:
    """The deploy ramdisk is on the shelf and current. Safe to repeat. Raises as `build_ramdisk` does."""
    built = build_ramdisk(settings.image_cache, progress)
    if built.note:
        progress(built.note)


def boot_services(settings: Settings, agents: BootAgents) -> BootServices:
    """What the boot service works with. Safe to repeat. Raises NotFound without a ramdisk, Rejected."""
    ramdisks = list_ramdisks(settings.image_cache)
    if not ramdisks:
        raise NotFound("there is no deploy ramdisk", hint="the API process builds it: look at its log")
    ramdisk = verify_ramdisk(ramdisks[0])
    return BootServices(
        agents=agents,
        kernel=ramdisk.kernel_path,
        ramdisk=ramdisk.ramdisk_path,
        image_path=lambda sha256: image_file(settings.image_cache, sha256),
    )


def image_file(cache: Path, sha256: str) -> Path | None:
    """Where the image of that digest lies; None when there is none."""
    return next((i.path for i in list_images(cache) if i.record.sha256 == sha256), None)
