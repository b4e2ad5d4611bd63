"""A deploy ramdisk carried from one installation to another."""

from __future__ import annotations

import io
import os
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from drivers.artifacts.shelf import file_digest
from drivers.ramdisk import export_bundle, import_bundle, list_ramdisks, verify_ramdisk
from drivers.ramdisk.builder import BuiltRamdisk, RamdiskRecord
from levier.domain.errors import Rejected
from levier.lab.stub.image import write_ramdisk


def _on_shelf(cache: Path, *, version: str = "6.1.0-1-amd64") -> BuiltRamdisk:
    """A ramdisk as the builder leaves one."""
    directory = cache / "ramdisk" / version
    directory.mkdir(parents=True)
    for name in ("kernel", "ramdisk"):
        (directory / name).write_bytes(os.urandom(300_000))
    record = RamdiskRecord(
        kernel="generic",
        kernel_version=version,
        drivers="all",
        modules=7,
        kernel_sha256=file_digest(directory / "kernel"),
        kernel_size_bytes=300_000,
        ramdisk_sha256=file_digest(directory / "ramdisk"),
        ramdisk_size_bytes=300_000,
        built_at=datetime(2026, 1, 1, tzinfo=UTC),
        inputs_digest="d",
        recipe_digest="r",
    )
    (directory / "ramdisk.json").write_text(record.model_dump_json())
    return list_ramdisks(cache)[0]


def _bundle(built: BuiltRamdisk, target: Path) -> Path:
    with target.open("wb") as out:
        export_bundle(built, out)
    return target


def test_it_arrives_byte_for_byte_and_is_the_one_that_is_served(tmp_path: Path) -> None:
    built = _on_shelf(tmp_path / "here")
    there = tmp_path / "there"
    earlier = _on_shelf(there, version="6.1.0-2-amd64")
    imported = import_bundle(there, _bundle(built, tmp_path / "bundle"))
    assert list_ramdisks(there)[0] == imported == verify_ramdisk(imported)
    assert imported.ramdisk_path.read_bytes() == built.ramdisk_path.read_bytes()
    assert imported.record.imported_at is not None
    assert imported.record.model_copy(update={"imported_at": None}) == built.record
    assert earlier in list_ramdisks(there)
    again = import_bundle(there, _bundle(imported, tmp_path / "again"))
    assert again.kernel_path == imported.kernel_path


def test_one_that_is_not_what_was_built_is_not_handed_on(tmp_path: Path) -> None:
    built = _on_shelf(tmp_path)
    built.kernel_path.write_bytes(b"other")
    with pytest.raises(Rejected, match="is not what was built"):
        _bundle(built, tmp_path / "bundle")


@pytest.mark.parametrize("member", ["kernel", "ramdisk"])
def test_a_bundle_whose_content_was_changed_is_refused(tmp_path: Path, member: str) -> None:
    bundle = _bundle(_on_shelf(tmp_path / "here"), tmp_path / "bundle")
    changed = tmp_path / "changed"
    with tarfile.open(bundle) as old, tarfile.open(changed, "w") as new:
        for info in old:
            content = old.extractfile(info)
            assert content is not None
            data = content.read()
            new.addfile(info, io.BytesIO(bytes(len(data)) if info.name == member else data))
    with pytest.raises(Rejected, match="is not what was built"):
        import_bundle(tmp_path / "there", changed)
    assert list_ramdisks(tmp_path / "there") == ()


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no archive at all")
    with tarfile.open(tmp_path / "half", "w") as archive:
        archive.add(tmp_path / "text", arcname="kernel")
    for name in ("text", "half"):
        with pytest.raises(Rejected, match="no bundle of a deploy ramdisk") as refused:
            import_bundle(tmp_path / "there", tmp_path / name)
        assert "levier ramdisk export" in refused.value.hint
    assert list_ramdisks(tmp_path / "there") == ()


def test_the_bundle_of_a_stub_rack_is_one(tmp_path: Path) -> None:
    write_ramdisk(tmp_path / "ramdisk.tar")
    imported = import_bundle(tmp_path / "shelf", tmp_path / "ramdisk.tar")
    assert verify_ramdisk(imported).record.kernel_version == "levier-stub"
