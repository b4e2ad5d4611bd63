"""Releases as the API lists, compares and builds them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from drivers.bundle import Bundle, build_bundle, find_bundle, list_bundles, remove_bundles
from levier.domain.errors import NotFound
from levier.domain.release import Release, diff_packages
from levier.services.builds import Builds, Tell
from levier.services.release_catalogue import ReleaseCatalogue


class Releases:
    """Builds bundles in threads, one at a time per release and image; the shelf on disk is the truth."""

    def __init__(self, catalogue: ReleaseCatalogue, cache: Path) -> None:
        self._catalogue = catalogue
        self._cache = cache
        self._builds: Builds[tuple[str, str], Bundle] = Builds()

    def all(self) -> list[dict[str, Any]]:
        """Every release, oldest first, with its bundles; those of a release that is no longer defined come last."""
        bundles, releases = list_bundles(self._cache), self._catalogue.all()
        known = {release.name for release in releases}
        listed = [_summary(release, [b for b in bundles if b.manifest.release == release.name]) for release in releases]
        for orphan in sorted({b.manifest.release for b in bundles} - known):
            built = [b for b in bundles if b.manifest.release == orphan]
            listed.append({"name": orphan, "summary": "no longer defined", "bundles": [_bundle(b) for b in built]})
        return listed

    def show(self, name: str) -> dict[str, Any]:
        """One release in full: what it asks for and why, every package, every bundle. Raises NotFound."""
        release = self._catalogue.get(name)
        built = [b for b in list_bundles(self._cache) if b.manifest.release == release.name]
        spec = release.spec
        return {
            **_summary(release, built),
            "as_of": spec.as_of.isoformat(timespec="seconds"),
            "lock_digest": release.lock.digest,
            "wanted": [each.model_dump(mode="json") for each in spec.packages],
            "constraints": [each.model_dump(mode="json") for each in spec.constraints],
            "packages": release.lock.versions(),
        }

    def diff(self, before: str, after: str) -> dict[str, Any]:
        """What changes from one release to another, by package. Raises NotFound."""
        first, second = self._catalogue.get(before), self._catalogue.get(after)
        changes = diff_packages(first.lock.versions(), second.lock.versions())
        asked_for = {each.name for each in (*first.spec.packages, *second.spec.packages)}
        rows = [{**change._asdict(), "asked_for": change.name in asked_for} for change in changes]
        return {"before": first.name, "after": second.name, "changes": rows}

    def bundle(self, name: str, image: str) -> Bundle:
        """The newest bundle of the release for the image. Raises NotFound with the command that builds one."""
        return find_bundle(self._cache, self._catalogue.get(name).name, image)

    def remove(self, name: str, *, image: str | None = None) -> list[dict[str, Any]]:
        """No bundle of the release is kept (for the image, when one is named); what is removed is returned.

        Hosts keep what they unpacked. `name` is a whole name, since removing "the newest" is rarely meant. Raises
        NotFound, Conflict.
        """
        return [_bundle(bundle) for bundle in remove_bundles(self._cache, name, image)]

    def start_build(self, name: str, image: str) -> dict[str, Any]:
        """The bundle is being built, or was just now. Safe to repeat. Raises NotFound for an unknown release."""
        release = self._catalogue.get(name)
        label = f"{release.name}-{image}"
        self._builds.start((release.name, image), partial(self._build, release, image), label=label)
        return self.progress(release.name, image)

    def progress(self, name: str, image: str, *, since: int = 0) -> dict[str, Any]:
        """How the build goes; the progress lines from number `since` on. Raises NotFound when none was started."""
        release = self._catalogue.get(name).name
        build = self._builds.get((release, image))
        if build is None:
            raise NotFound(
                f"no build of release {release} for {image} was started",
                hint=f"levier release build {release} --image {image}",
            )
        bundle = _bundle(build.result) if build.result is not None else None
        return {"release": release, "image": image, **build.told(since=since), "bundle": bundle}

    def _build(self, release: Release, image: str, tell: Tell) -> Bundle:
        bundle = build_bundle(release, image, self._cache, tell)
        tell(f"{release.name} for {image}: ready, SHA-256 {bundle.manifest.sha256}")
        if bundle.note:
            tell(bundle.note)
        return bundle


def _summary(release: Release, bundles: Sequence[Bundle]) -> dict[str, Any]:
    return {
        "name": release.name,
        "series": release.spec.series,
        "summary": release.spec.summary,
        "images": list(release.spec.images),
        "package_count": len(release.lock.packages),
        "bundles": [_bundle(bundle) for bundle in bundles],
    }


def _bundle(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "release": manifest.release,
        "image": manifest.image,
        "identity": manifest.identity,
        "python": manifest.python,
        "size_mib": round(manifest.size_bytes / 2**20, 1),
        "unpacked_mib": round(manifest.unpacked_bytes / 2**20, 1),
        "sha256": manifest.sha256,
        "os_packages": list(manifest.os_packages),
        "lock_digest": manifest.lock_digest,
        "built": manifest.built_at.isoformat(timespec="seconds"),
    }
