"""Images in glance, in a project."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from openstack.connection import Connection

from drivers.openstack.removal import Removal
from levier.domain.errors import Rejected

_READY = "active"


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """An image: its name in the project, its kind (`aki`, `ari`, `ami`, `raw`), its bytes and properties."""

    name: str
    kind: str
    content: bytes = field(repr=False)
    properties: Mapping[str, str] = field(default_factory=dict)


def images_of(cloud: Connection, project: str) -> list[Any]:
    """All images that the project owns."""
    return list(cloud.image.images(owner=project))


def ensure_image(cloud: Connection, project: str, spec: ImageSpec, *, tag: str) -> str:
    """The image holds exactly these bytes; its id. Safe to repeat: a half-uploaded one is replaced.

    Raises Rejected when glance counted other bytes than were sent.
    """
    for present in (each for each in images_of(cloud, project) if each.name == spec.name):
        if present.status == _READY and _is(present, spec):
            return str(present.id)
        cloud.image.delete_image(present, ignore_missing=True)
    bare = "bare" if spec.kind == "raw" else spec.kind
    made = cloud.image.create_image(
        spec.name,
        allow_duplicates=True,
        data=spec.content,
        disk_format=spec.kind,
        container_format=bare,
        visibility="private",
        tags=[tag],
        meta=dict(spec.properties),
    )
    seen = cloud.image.get_image(made.id)
    if seen.status != _READY or not _is(seen, spec):
        raise Rejected(
            f"image {spec.name} is {seen.status} with {seen.size} bytes, {len(spec.content)} were sent",
            hint="see glance's log on its host",
        )
    return str(seen.id)


def _is(image: Any, spec: ImageSpec) -> bool:
    """Glance computes the digest of what arrived."""
    return bool(image.size == len(spec.content) and image.hash_value == _digest(image.hash_algo, spec.content))


def _digest(algorithm: str, content: bytes) -> str:
    return hashlib.new(algorithm, content).hexdigest()


def download(cloud: Connection, image: str) -> bytes:
    """The image's bytes, as glance gives them."""
    return b"".join(_chunks(cloud, image))


def _chunks(cloud: Connection, image: str) -> Iterator[bytes]:
    answer: Any = cloud.image.download_image(image, stream=True)
    yield from answer.iter_content(1 << 20)


def image_removals(cloud: Connection, project: str) -> Iterator[Removal]:
    """How each of the project's images is removed. Safe to repeat."""
    for each in images_of(cloud, project):
        yield Removal(f"image {each.name}", partial(cloud.image.delete_image, each, ignore_missing=True))
