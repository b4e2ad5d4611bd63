"""Images as the API builds, imports and lists them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from drivers.guest import NAME as GUEST
from drivers.guest import BuiltGuest, build_guest, list_guests
from drivers.images.builder import build_image
from drivers.images.catalog import BuiltImage, list_images
from drivers.images.importing import import_image
from drivers.images.recipe import ImageRecipe, KernelFlavour, recipe_named
from drivers.ramdisk import BuiltRamdisk, export_bundle, import_bundle, list_ramdisks
from levier.domain.errors import NotFound
from levier.domain.site import Site
from levier.services.builds import Builds, Tell
from levier.services.cloud import Cloud
from levier.services.sites import Sites


class Images:
    """Builds images in threads, one at a time per name; the shelf on disk is the truth, a build can be repeated."""

    def __init__(self, cache: Path, sites: Sites, cloud: Cloud) -> None:
        self._cache = cache
        self._sites = sites
        self._cloud = cloud
        self._builds: Builds[str, BuiltImage | BuiltGuest] = Builds()

    def all(self) -> list[dict[str, Any]]:
        """All built images, newest first per name; the guest of the smoke test among them."""
        return [*(_image(image) for image in list_images(self._cache)), *map(_guest, list_guests(self._cache))]

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """A place for a file that is on its way, on the shelf's own file system; gone afterwards."""
        self._cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._cache, prefix=".incoming-") as directory:
            yield Path(directory) / "file"

    def take_in(self, name: str, file: Path, *, sha256: str) -> dict[str, Any]:
        """The file is the newest image `name`. Raises Rejected, naming what is wrong with it; see `import_image`."""
        return _image(import_image(self._cache, name, file, sha256=sha256))

    def ramdisks(self) -> list[dict[str, Any]]:
        """The deploy ramdisks, newest first: the first one is served."""
        return [_ramdisk(each) for each in list_ramdisks(self._cache)]

    def write_bundle(self, target: Path) -> None:
        """`target` is a bundle of the ramdisk that is served. Raises NotFound when there is none, Rejected."""
        newest = next(iter(list_ramdisks(self._cache)), None)
        if newest is None:
            raise NotFound("there is no deploy ramdisk", hint="run `levier up` as root, which builds one")
        with target.open("wb") as out:
            export_bundle(newest, out)

    def take_in_ramdisk(self, file: Path) -> dict[str, Any]:
        """The bundle's ramdisk is the one that is served. Raises Rejected; see `import_bundle`."""
        return _ramdisk(import_bundle(self._cache, file))

    def start_build(self, name: str, *, kernel: str, with_packages: bool = False) -> dict[str, Any]:
        """The image is being built, or was just now. Safe to repeat.

        `with_packages` adds what an installation gives the nodes with this image. Raises NotFound for an unknown name,
        and with `with_packages` where no node has the image or the release was not built.
        """
        if name == GUEST:
            self._builds.start(name, self._build_guest, label=name)
        else:
            recipe = self._recipe(name, KernelFlavour(kernel), with_packages=with_packages)
            self._builds.start(name, partial(self._build, recipe), label=name)
        return self.progress(name)

    def _recipe(self, name: str, kernel: KernelFlavour, *, with_packages: bool) -> ImageRecipe:
        present = self._sites.current() if with_packages else self._sites.current_or_none()
        if present is None:
            return recipe_named(name, kernel=kernel)
        site = present[1]
        system = next((each.os for each in site.images if each.name == name), None)
        extra = self._packages(site, name) if with_packages else ()
        return recipe_named(name, kernel=kernel, os=system or name, extra=extra)

    def _packages(self, site: Site, name: str) -> set[str]:
        """What an installation gives the nodes with the image `name`."""
        nodes = [node for node in site.nodes if node.image == name]
        if not nodes:
            raise NotFound(f"no node of the site has the image {name}", hint="build it without --with-packages")
        return {package for node in nodes for package in self._cloud.packages(site, node)}

    def progress(self, name: str, *, since: int = 0) -> dict[str, Any]:
        """How the build goes; the progress lines from number `since` on. Raises NotFound when none was started."""
        build = self._builds.get(name)
        if build is None:
            raise NotFound(f"no build of image {name} was started", hint=f"levier image build {name}")
        result = build.result
        image = None if result is None else _guest(result) if isinstance(result, BuiltGuest) else _image(result)
        return {"name": name, **build.told(since=since), "image": image}

    def _build(self, recipe: ImageRecipe, tell: Tell) -> BuiltImage:
        image = build_image(recipe, self._cache, tell)
        tell(f"{recipe.name}: ready, SHA-256 {image.record.sha256}")
        if image.note:
            tell(image.note)
        return image

    def _build_guest(self, tell: Tell) -> BuiltGuest:
        guest = build_guest(self._cache, tell)
        tell(f"{GUEST}: ready, kernel {guest.record.kernel_version}, SHA-256 {guest.record.ramdisk_sha256}")
        if guest.note:
            tell(guest.note)
        return guest


def _guest(guest: BuiltGuest) -> dict[str, Any]:
    """It has no disk: its ramdisk is all of its system."""
    record = guest.record
    return {
        "name": GUEST,
        "kernel": "cloud",
        "kernel_version": record.kernel_version,
        "size_mib": round((record.kernel_size_bytes + record.ramdisk_size_bytes) / 2**20, 1),
        "raw_size_mib": 0.0,
        "sha256": record.ramdisk_sha256,
        "built": record.built_at.isoformat(timespec="seconds"),
    }


def _ramdisk(ramdisk: BuiltRamdisk) -> dict[str, Any]:
    record = ramdisk.record
    return {
        "kernel": record.kernel_version,
        "drivers": record.drivers,
        "size_mib": round(record.ramdisk_size_bytes / 2**20, 1),
        "sha256": record.ramdisk_sha256,
        "origin": "built here" if record.imported_at is None else "imported",
        "since": record.since.isoformat(timespec="seconds"),
    }


def _image(image: BuiltImage) -> dict[str, Any]:
    record = image.record
    return {
        "name": record.name,
        "kernel": record.kernel,
        "kernel_version": record.kernel_version,
        "size_mib": round(record.size_bytes / 2**20, 1),
        "raw_size_mib": round(record.raw_size_bytes / 2**20, 1),
        "sha256": record.sha256,
        "built": record.built_at.isoformat(timespec="seconds"),
    }
