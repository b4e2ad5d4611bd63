"""Images on the shelf are what was built, or are not used."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from drivers.images.catalog import BuiltImage, ImageRecord, list_images, verify_image
from levier.domain.errors import MalformedReply, NotFound, Rejected


def shelve(cache: Path, digest: str, *, content: bytes = b"image", day: int = 1, name: str = "debian-12") -> Path:
    directory = cache / name / digest
    directory.mkdir(parents=True)
    (directory / "image.raw.zst").write_bytes(content)
    record = ImageRecord(
        name=name,
        suite="bookworm",
        kernel="cloud",
        kernel_version="6.1.0-1-cloud-amd64",
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        raw_size_bytes=1 << 20,
        built_at=datetime(2026, 1, day, tzinfo=UTC),
        inputs_digest=digest,
        recipe_digest="r",
        packages={"libc6": "1"},
    )
    (directory / "image.json").write_text(record.model_dump_json())
    return directory


def test_listing_is_by_name_and_newest_first(tmp_path: Path) -> None:
    shelve(tmp_path, "b" * 64, day=1, name="debian-13")
    shelve(tmp_path, "a" * 64, day=1)
    shelve(tmp_path, "c" * 64, day=3)
    (tmp_path / "debian-12/.building-x").mkdir()
    (tmp_path / "debian-12/.building-x/image.json").write_text("{")
    assert [(image.name, image.record.built_at.day) for image in list_images(tmp_path)] == [
        ("debian-12", 3),
        ("debian-12", 1),
        ("debian-13", 1),
    ]
    assert list_images(tmp_path / "nowhere") == ()


def test_a_good_image_verifies_and_becomes_a_reference(tmp_path: Path) -> None:
    image: BuiltImage = verify_image(shelve(tmp_path, "a" * 64))
    assert image.ref().sha256 == hashlib.sha256(b"image").hexdigest()
    assert (image.ref().name, image.ref().size_bytes, image.ref().raw_size_bytes) == ("debian-12", 5, 1 << 20)
    assert verify_image(image.path) == image


@pytest.mark.parametrize(("content", "cause"), [(b"imagE", "SHA-256"), (b"imag", "4 bytes")])
def test_a_changed_image_is_refused(tmp_path: Path, content: bytes, cause: str) -> None:
    directory = shelve(tmp_path, "a" * 64)
    (directory / "image.raw.zst").write_bytes(content)
    with pytest.raises(Rejected, match=cause):
        verify_image(directory)


def test_missing_and_unreadable_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        verify_image(tmp_path)
    directory = shelve(tmp_path, "a" * 64)
    (directory / "image.raw.zst").unlink()
    with pytest.raises(NotFound, match="missing"):
        verify_image(directory)
    (directory / "image.json").write_text("{}")
    with pytest.raises(MalformedReply, match="no image record"):
        verify_image(directory)
