"""The images and the ramdisk the suites share: built once per machine, then only checked."""

from __future__ import annotations

import os
import time
from pathlib import Path

from drivers.images import BuiltImage, KernelFlavour, build_image, recipe_named
from drivers.ramdisk import BuiltRamdisk, build_ramdisk
from levier.domain.errors import Conflict

_PATIENCE_S = 900


def image_cache() -> Path:
    """Where built images are kept between runs; safe to delete."""
    return Path(os.environ.get("LEVIER_TEST_CACHE") or Path.home() / ".cache/levier") / "images"


def shared_image(name: str = "debian-12") -> BuiltImage:
    """The image with the kernel for virtual machines. Waits for another suite that is building it."""
    recipe = recipe_named(name, kernel=KernelFlavour.CLOUD)
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return build_image(recipe, image_cache(), print)
        except Conflict:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def shared_ramdisk() -> BuiltRamdisk:
    """The ramdisk as real machines get it. Waits for another suite that is building it."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return build_ramdisk(image_cache(), print)
        except Conflict:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)
