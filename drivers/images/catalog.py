"""Finished images on the shelf: what is there, and whether it is still what was built."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from drivers.artifacts.shelf import file_digest
from levier.domain.errors import MalformedReply, NotFound, Rejected
from levier.domain.netboot import ImageRef

IMAGE_FILE = "image.raw.zst"
RECORD_FILE = "image.json"


class ImageRecord(BaseModel):
    """What is written beside an image. Sizes in bytes, digests lower-case hexadecimal SHA-256."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    suite: str
    kernel: str
    kernel_version: str
    sha256: str
    size_bytes: int
    raw_size_bytes: int
    built_at: datetime
    inputs_digest: str
    recipe_digest: str
    """Digest of the inputs that are known without a network: the recipe and the builder."""
    packages: dict[str, str]
    """Name and version of every package in the image."""


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """A finished image: its record and where its file lies."""

    record: ImageRecord
    path: Path
    note: str = ""
    """What the operator should know about this build, such as an archive that could not be asked."""

    @property
    def name(self) -> str:
        """The recipe's name."""
        return self.record.name

    def ref(self) -> ImageRef:
        """The image as the boot service serves it."""
        return ImageRef(
            name=self.record.name,
            sha256=self.record.sha256,
            size_bytes=self.record.size_bytes,
            raw_size_bytes=self.record.raw_size_bytes,
        )


def read_image(directory: Path) -> BuiltImage:
    """The image in one directory of the shelf.

    Raises NotFound when there is none, MalformedReply when its record is unreadable.
    """
    record_path = directory / RECORD_FILE
    try:
        record = ImageRecord.model_validate_json(record_path.read_bytes())
    except FileNotFoundError as error:
        raise NotFound(f"there is no image in {directory}", hint="levier image build") from error
    except ValidationError as error:
        raise MalformedReply(
            f"{record_path} is no image record: {error.errors()[0]['msg']}", hint=f"remove {directory} and build again"
        ) from error
    return BuiltImage(record=record, path=directory / IMAGE_FILE)


def list_images(cache: Path) -> tuple[BuiltImage, ...]:
    """All images on the shelf, by name, newest first. Their files are not read; see `verify_image`."""
    images = [
        read_image(path.parent) for path in cache.glob(f"*/*/{RECORD_FILE}") if not path.parent.name.startswith(".")
    ]
    return tuple(sorted(images, key=lambda image: (image.name, -image.record.built_at.timestamp())))


def verify_image(path: Path) -> BuiltImage:
    """The image file at `path` (or in the directory `path`) is byte for byte what was built.

    Reads the whole file, a second for a few hundred MB; safe to repeat. Raises Rejected on any difference, NotFound
    when it is missing.
    """
    image = read_image(path if path.is_dir() else path.parent)
    if not image.path.exists():
        raise NotFound(f"the image file {image.path} is missing", hint=f"levier image build {image.name}")
    found = image.path.stat().st_size
    if found != image.record.size_bytes:
        raise Rejected(f"{image.path} has {found} bytes, {image.record.size_bytes} were built", hint=_rebuild(image))
    digest = file_digest(image.path)
    if digest != image.record.sha256:
        raise Rejected(f"{image.path} has SHA-256 {digest}, {image.record.sha256} was built", hint=_rebuild(image))
    return image


def _rebuild(image: BuiltImage) -> str:
    return f"levier image build {image.name} builds it again"
