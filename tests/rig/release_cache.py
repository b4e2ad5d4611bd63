"""Small releases the suites share: built for real, once per machine, then only checked."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from drivers.bundle import Bundle, build_bundle
from levier.domain.errors import Conflict
from levier.domain.release import Release
from levier.services.release_catalogue import read_release, shipped_directory

DEFINITIONS = Path(__file__).parent / "releases"
CLOUD_RELEASE = "2026.2.2"
_PATIENCE_S = 900


def release_cache() -> Path:
    """Where build roots and bundles are kept between runs; safe to delete."""
    return Path(os.environ.get("LEVIER_TEST_CACHE") or Path.home() / ".cache/levier") / "releases"


def small_release(patch: int = 1) -> Release:
    """A release of three packages: one with a console script, one as source only, one with C code."""
    return read_release(DEFINITIONS / f"1999.1.{patch}")


@cache
def shared_bundle(patch: int = 1) -> Bundle:
    """The small release's bundle for debian-12, asked for once per process.

    Waits for another suite that is building it.
    """
    return patiently(lambda: build_bundle(small_release(patch), "debian-12", release_cache(), print))


def patiently(build: Callable[[], Bundle]) -> Bundle:
    """What `build` returns, once no other suite is building it."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return build()
        except Conflict:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


@cache
def shared_cloud_bundle(image: str) -> Bundle:
    """The bundle of a whole release of OpenStack for the image; minutes where nobody built it before."""
    release = read_release(shipped_directory() / CLOUD_RELEASE)
    return patiently(lambda: build_bundle(release, image, release_cache(), print))


def root_archive() -> Path:
    """The build root of debian-12 that the shared bundle was made in."""
    shared_bundle()
    (archive,) = (release_cache() / "root-debian-12").glob("*/root.tar.zst")
    return archive
