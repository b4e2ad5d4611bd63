"""An operator's own image: real disks, compressed by the real program, and every way in which one can be wrong."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from drivers.artifacts.shelf import build_lock, file_digest
from drivers.images.catalog import list_images, verify_image
from drivers.images.importing import import_image, partition_names
from levier.domain.errors import Conflict, Rejected

SIZE = 6 << 20


def _disk(path: Path, *names: str, label: str = "gpt") -> Path:
    """A raw disk with these partitions, made by sfdisk."""
    path.write_bytes(b"")
    with path.open("r+b") as file:
        file.truncate(SIZE)
    lines = [f"label: {label}", *(f"start={i + 1}MiB, size=1MiB" for i in range(len(names)))]
    if label == "gpt":
        lines[1:] = [f"{line}, name={name}" for line, name in zip(lines[1:], names, strict=True)]
    subprocess.run(["/sbin/sfdisk", "--quiet", str(path)], input="\n".join(lines), text=True, check=True)
    return path


def _packed(disk: Path, *options: str) -> Path:
    target = disk.with_suffix(".zst")
    subprocess.run(["zstd", "--quiet", "-f", *options, str(disk), "-o", str(target)], check=True)
    return target


def test_an_image_is_taken_in_and_found(tmp_path: Path) -> None:
    file = _packed(_disk(tmp_path / "disk", "esp", "root"))
    digest, size = file_digest(file), file.stat().st_size
    imported = import_image(tmp_path / "shelf", "mine", file, sha256=digest.upper())
    assert not file.exists()
    assert (imported.record.sha256, imported.record.size_bytes) == (digest, size)
    assert imported.record.raw_size_bytes == SIZE
    (found,) = list_images(tmp_path / "shelf")
    assert found == verify_image(found.path)
    assert found.ref().raw_size_bytes == SIZE


def test_the_last_one_taken_in_is_the_newest_of_its_name(tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    contents = {name: _packed(_disk(tmp_path / name, "root")).read_bytes() for name in ("first", "second")}
    for name in ("first", "second", "first"):
        (tmp_path / "file").write_bytes(contents[name])
        newest = import_image(shelf, "mine", tmp_path / "file")
        assert list_images(shelf)[0].record.sha256 == newest.record.sha256
    assert len(list_images(shelf)) == 2
    assert [path.name for path in (shelf / "mine").iterdir() if path.name.startswith(".building")] == []


def test_a_wrong_checksum_is_refused_before_anything_else(tmp_path: Path) -> None:
    file = _packed(_disk(tmp_path / "disk", "root"))
    with pytest.raises(Rejected, match="expected 0000") as refused:
        import_image(tmp_path / "shelf", "mine", file, sha256="0" * 64)
    assert file_digest(file) in str(refused.value)
    assert list_images(tmp_path / "shelf") == ()


def test_a_copy_that_ends_early_is_refused(tmp_path: Path) -> None:
    disk = _disk(tmp_path / "disk", "root")
    with disk.open("r+b") as file:
        file.seek(2 << 20)
        file.write(os.urandom(100_000))
    packed = _packed(disk)
    packed.write_bytes(packed.read_bytes()[:-20_000])
    with pytest.raises(Rejected, match="no whole zstd stream"):
        import_image(tmp_path / "shelf", "mine", packed)


def test_a_flipped_bit_is_refused_by_the_stream_s_own_checksum(tmp_path: Path) -> None:
    disk = _disk(tmp_path / "disk", "root")
    with disk.open("r+b") as file:
        file.seek(2 << 20)
        file.write(os.urandom(100_000))
    packed = _packed(disk, "--check")
    content = bytearray(packed.read_bytes())
    content[len(content) // 2] ^= 1
    packed.write_bytes(content)
    with pytest.raises(Rejected, match="no whole zstd stream"):
        import_image(tmp_path / "shelf", "mine", packed)


def test_what_is_no_zstd_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="no whole zstd stream") as refused:
        import_image(tmp_path / "shelf", "mine", _disk(tmp_path / "disk", "root"))
    assert "zstd disk.raw" in refused.value.hint


@pytest.mark.parametrize(
    ("names", "label", "told"),
    [
        (("esp", "data"), "gpt", "no partition named root, but esp, data"),
        ((), "gpt", "no partition named root, but none"),
        (("a",), "dos", "no GPT"),
    ],
)
def test_a_disk_that_no_agent_could_use_is_refused(
    tmp_path: Path, names: tuple[str, ...], label: str, told: str
) -> None:
    with pytest.raises(Rejected, match=told):
        import_image(tmp_path / "shelf", "mine", _packed(_disk(tmp_path / "disk", *names, label=label)))
    assert list_images(tmp_path / "shelf") == ()


def test_an_image_that_is_not_of_whole_sectors_is_refused(tmp_path: Path) -> None:
    disk = _disk(tmp_path / "disk", "root")
    disk.write_bytes(disk.read_bytes() + b"x")
    with pytest.raises(Rejected, match="no whole sectors"):
        import_image(tmp_path / "shelf", "mine", _packed(disk))


def test_nothing_is_taken_in_while_the_name_is_built(tmp_path: Path) -> None:
    with build_lock(tmp_path / "shelf", "mine"), pytest.raises(Conflict, match="another build of mine"):
        import_image(tmp_path / "shelf", "mine", _packed(_disk(tmp_path / "disk", "root")))


def test_names_of_partitions_are_read_as_sfdisk_wrote_them(tmp_path: Path) -> None:
    disk = _disk(tmp_path / "disk", "esp", "Wurzel-ä", "root")
    assert partition_names(disk.read_bytes()) == ("esp", "Wurzel-ä", "root")
    assert partition_names(bytes(SIZE)) is None
    assert partition_names(b"") is None
