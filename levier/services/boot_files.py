"""The files a node boots from: the deploy ramdisk, built when it is missing or outdated, and the images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from drivers.ramdisk import build_ramdisk

from drivers.images.catalog import list_images
from levier.services.boot_agents import BootAgents, BootServices
from levier.services.settings import Settings


def boot_services(settings: Settings, agents: BootAgents, progress: Callable[[str], None]) -> BootServices:
    """What the boot service works with; the deploy ramdisk is built. Safe to repeat. Raises as `build_ramdisk` does."""
    ramdisk = build_ramdisk(settings.image_cache, progress=progress)
    return BootServices(
        agents=agents,
        kernel=ramdisk.kernel_path,
        ramdisk=ramdisk.ramdisk_path,
        image_path=lambda sha256: image_file(settings.image_cache, sha256),
    )


def image_file(cache: Path, sha256: str) -> Path | None:
    """Where the image of that digest lies; None when there is none."""
    return next((i.path for i in list_images(cache) if i.record.sha256 == sha256), None)
