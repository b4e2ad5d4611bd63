"""The disk of nspawn machines: growing the root partition leaves everything else as it is."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from levier.domain.errors import NotFound, Rejected
from levier.lab.guest.disk import Digesting, grow_root, root_partition, write_image

pytestmark = pytest.mark.root
_MIB = 1 << 20


def _disk(path: Path, *, table: str, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    subprocess.run(["sfdisk", "--quiet", str(path)], input=f"label: gpt\n{table}", text=True, check=True)
    return path


def _partitions(disk: Path) -> list[dict[str, object]]:
    done = subprocess.run(["sfdisk", "--json", str(disk)], capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout)["partitiontable"]["partitions"])


def test_the_last_partition_grows_with_its_file_system_once(tmp_path: Path) -> None:
    disk = _disk(tmp_path / "disk", table="size=8M, name=esp\nsize=40M, name=root\n", size=64 * _MIB)
    start, size = root_partition(disk)
    subprocess.run(["mke2fs", "-q", "-F", "-E", f"offset={start}", str(disk), f"{size // 1024}k"], check=True)
    with disk.open("r+b") as file:
        file.truncate(512 * _MIB)
    before = _partitions(disk)
    grow_root(disk)
    after = _partitions(disk)
    assert (after[0], after[1]["uuid"], after[1]["start"]) == (before[0], before[1]["uuid"], before[1]["start"])
    assert root_partition(disk)[1] > 490 * _MIB
    blocks = subprocess.run(["dumpe2fs", "-h", f"{disk}?offset={start}"], capture_output=True, text=True, check=True)
    assert int(blocks.stdout.split("Block count:")[1].split()[0]) * 1024 >= 490 * _MIB
    grow_root(disk)
    assert _partitions(disk) == after


def test_a_root_partition_in_the_middle_stays(tmp_path: Path) -> None:
    disk = _disk(tmp_path / "disk", table="size=40M, name=root\nsize=8M, name=data\n", size=256 * _MIB)
    before = _partitions(disk)
    grow_root(disk)
    assert _partitions(disk) == before


def test_a_disk_without_a_root_partition_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no partition named root"):
        root_partition(_disk(tmp_path / "disk", table="size=40M, name=other\n", size=64 * _MIB))
    (tmp_path / "empty").write_bytes(bytes(_MIB))
    with pytest.raises(NotFound, match="no partition table"):
        root_partition(tmp_path / "empty")


def test_writing_leaves_nothing_of_what_was_there(tmp_path: Path) -> None:
    disk, image = tmp_path / "disk", tmp_path / "image"
    disk.write_bytes(b"old" * _MIB)
    content = bytes(_MIB) + b"new" * 1000 + bytes(_MIB // 2)
    image.write_bytes(content)
    subprocess.run(["zstd", "-q", str(image)], check=True)
    packed = tmp_path / "image.zst"
    with packed.open("rb") as source:
        digesting = Digesting(source)
        write_image(disk, digesting, progress=lambda _: None)
    assert disk.read_bytes() == content.ljust(3 * _MIB, b"\0")
    assert digesting.size_bytes == packed.stat().st_size


@pytest.mark.parametrize("damage", ["truncated", "not zstd", "too large"])
def test_a_bad_image_is_refused_with_its_cause(tmp_path: Path, damage: str) -> None:
    disk, image = tmp_path / "disk", tmp_path / "image"
    disk.write_bytes(bytes(4 * _MIB))
    image.write_bytes(b"x" * (8 if damage == "too large" else 2) * _MIB)
    subprocess.run(["zstd", "-q", str(image)], check=True)
    packed = (tmp_path / "image.zst").read_bytes()
    (tmp_path / "sent").write_bytes(
        {"truncated": packed[:-10], "not zstd": b"hello" * 1000, "too large": packed}[damage]
    )
    with (tmp_path / "sent").open("rb") as source, pytest.raises(Rejected) as refused:
        write_image(disk, Digesting(source), progress=lambda _: None)
    assert ("larger than the disk" if damage == "too large" else "cannot be unpacked") in str(refused.value)
    assert disk.stat().st_size == 4 * _MIB
