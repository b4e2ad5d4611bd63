"""Finished bundles on the shelf: what is there, and whether it is still what was built."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from drivers.artifacts.shelf import build_lock, file_digest
from levier.domain.errors import MalformedReply, NotFound, Rejected
from levier.domain.release import BundleManifest

BUNDLE_FILE = "bundle.tar.zst"
MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A finished bundle: its manifest and where its archive lies."""

    manifest: BundleManifest
    path: Path
    note: str = ""
    """What the operator should know about this build, such as a package archive that could not be asked."""


def shelf_of(release: str, image: str) -> str:
    """The name under which the bundles of a release for an image are shelved."""
    return f"{release}+{image}"


def read_bundle(directory: Path) -> Bundle:
    """The bundle in one directory of the shelf.

    Raises NotFound when there is none, MalformedReply when its manifest is unreadable.
    """
    path = directory / MANIFEST_FILE
    try:
        manifest = BundleManifest.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise NotFound(f"there is no bundle in {directory}", hint="levier release build") from error
    except ValidationError as error:
        raise MalformedReply(
            f"{path} is no bundle manifest: {error.errors()[0]['msg']}", hint=f"remove {directory} and build again"
        ) from error
    return Bundle(manifest, directory / BUNDLE_FILE)


def list_bundles(cache: Path) -> tuple[Bundle, ...]:
    """All bundles on the shelf, by release and image, newest first. Archives are not read; see `verify_bundle`."""
    found = [
        read_bundle(path.parent)
        for path in cache.glob(f"*+*/*/{MANIFEST_FILE}")
        if not path.parent.name.startswith(".")
    ]
    return tuple(sorted(found, key=lambda b: (b.manifest.release, b.manifest.image, -b.manifest.built_at.timestamp())))


def find_bundle(cache: Path, release: str, image: str) -> Bundle:
    """The newest bundle of the release for the image. Raises NotFound with the command that builds one."""
    for bundle in list_bundles(cache):
        if (bundle.manifest.release, bundle.manifest.image) == (release, image):
            return bundle
    raise NotFound(
        f"there is no bundle of release {release} for {image}", hint=f"levier release build {release} --image {image}"
    )


def bundle_file(cache: Path, sha256: str) -> Path | None:
    """Where the archive with that digest lies; None when there is none."""
    return next((bundle.path for bundle in list_bundles(cache) if bundle.manifest.sha256 == sha256), None)


def verify_bundle(directory: Path) -> Bundle:
    """The archive in `directory` is byte for byte what was built.

    Reads it whole, a fraction of a second for 100 MB; safe to repeat. Raises Rejected on any difference, NotFound when
    it is missing.
    """
    bundle = read_bundle(directory)
    way_out = f"levier release build {bundle.manifest.release} --image {bundle.manifest.image} builds it again"
    try:
        size_bytes, digest = bundle.path.stat().st_size, file_digest(bundle.path)
    except FileNotFoundError as error:
        raise NotFound(f"the bundle {bundle.path} is missing", hint=way_out) from error
    if (size_bytes, digest) != (bundle.manifest.size_bytes, bundle.manifest.sha256):
        raise Rejected(
            f"{bundle.path} has {size_bytes} bytes and SHA-256 {digest}; built were {bundle.manifest.size_bytes} bytes "
            f"and {bundle.manifest.sha256}",
            hint=way_out,
        )
    return bundle


def remove_bundles(cache: Path, release: str, image: str | None = None) -> tuple[Bundle, ...]:
    """No bundle of the release (for the image, when one is named) is on the shelf; those that were are returned.

    A download that is under way ends well: the file goes when it is closed. Raises NotFound when there was none,
    Conflict while one is being built.
    """
    doomed = [b for b in list_bundles(cache) if b.manifest.release == release and image in (None, b.manifest.image)]
    if not doomed:
        what = f"release {release}" + (f" for {image}" if image else "")
        raise NotFound(f"there is no bundle of {what}", hint="levier release list shows what is built")
    for name in sorted({shelf_of(release, bundle.manifest.image) for bundle in doomed}):
        with build_lock(cache, name):
            for directory in (cache / name).iterdir():
                if directory.is_dir():
                    shutil.rmtree(directory)
    return tuple(doomed)
