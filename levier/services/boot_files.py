"""The files a node boots from: the deploy ramdisk and the images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from drivers.bundle import bundle_file
from drivers.guest import NAME as GUEST
from drivers.guest import build_guest
from drivers.images.catalog import list_images
from drivers.ramdisk import build_ramdisk, list_ramdisks, verify_ramdisk
from levier.domain.errors import Conflict, InvalidRequest, Unreachable
from levier.services.boot_agents import BootAgents, BootServices, DeployFiles
from levier.services.settings import Settings


def ensure_ramdisk(settings: Settings, progress: Callable[[str], None]) -> None:
    """The deploy ramdisk is on the shelf and current, or `progress` was told why none is built here. Safe to repeat.

    One that was imported is kept. Where building is switched off or impossible (no root, a missing tool), everything
    but booting nodes works without one. Raises as `build_ramdisk` does for a build that fails.
    """
    present = list_ramdisks(settings.image_cache)
    if present and present[0].record.imported_at is not None:
        progress(f"ramdisk: the imported one is served, kernel {present[0].record.kernel_version}")
        return
    if not settings.build_ramdisk:
        progress("ramdisk: none is built here; one can be imported with `levier ramdisk import FILE`")
        return
    try:
        built = build_ramdisk(settings.image_cache, progress)
    except InvalidRequest as error:
        progress(f"ramdisk: not built: {error}; one can be imported with `levier ramdisk import FILE`")
    else:
        if built.note:
            progress(built.note)


def ensure_guest(settings: Settings, progress: Callable[[str], None]) -> None:
    """The guest of the smoke test is on the shelf and current, or `progress` was told why not. Safe to repeat.

    Everything but installing a cloud works without one. Raises Rejected for a build that fails.
    """
    if not settings.build_ramdisk:
        return
    try:
        note = build_guest(settings.image_cache, progress).note
    except (InvalidRequest, Conflict, Unreachable) as error:
        note = f"smoke guest: not built: {error}; later: levier image build {GUEST}"
    if note:
        progress(note)


class DeployShelf:
    """Finds the newest deploy ramdisk on the shelf; each is verified once. Thread-safe."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._verified: frozenset[Path] = frozenset()

    def files(self) -> DeployFiles | None:
        """The ramdisk that is served now; None when there is none. Raises Rejected when it is not what was built."""
        newest = next(iter(list_ramdisks(self._cache)), None)
        if newest is None:
            return None
        if newest.kernel_path not in self._verified:
            verify_ramdisk(newest)
            self._verified |= {newest.kernel_path}
        return DeployFiles(kernel=newest.kernel_path, ramdisk=newest.ramdisk_path)


def boot_services(settings: Settings, agents: BootAgents) -> BootServices:
    """What the boot service works with. Safe to repeat. Raises Rejected for a damaged ramdisk."""
    shelf = DeployShelf(settings.image_cache)
    shelf.files()
    return BootServices(
        agents=agents,
        deploy_files=shelf.files,
        image_path=lambda sha256: image_file(settings.image_cache, sha256),
        bundle_path=lambda sha256: bundle_file(settings.bundle_cache, sha256),
    )


def image_file(cache: Path, sha256: str) -> Path | None:
    """Where the image of that digest lies; None when there is none."""
    return next((i.path for i in list_images(cache) if i.record.sha256 == sha256), None)
