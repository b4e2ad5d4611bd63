"""Takes an operator's own image onto the shelf, after looking at everything that a machine would stumble over."""

from __future__ import annotations

import os
import struct
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from drivers.artifacts.command import require_tools
from drivers.artifacts.shelf import build_lock, file_digest, publish, work_directory
from drivers.images.catalog import IMAGE_FILE, RECORD_FILE, BuiltImage, ImageRecord
from levier.domain.errors import InvalidRequest, Rejected

_CHUNK = 1 << 20
_SECTOR = 512
_HEADER = struct.Struct("<8s4I4Q16sQ3I")
"""UEFI 2.10, table 5.5: up to and with the size of a partition entry and the CRC of all of them."""
_ROOT = "root"


@dataclass(frozen=True, slots=True)
class _Content:
    raw_size_bytes: int
    head: bytes
    """The first MiB of the disk."""


def import_image(cache: Path, name: str, file: Path, *, sha256: str = "") -> BuiltImage:
    """The file is on the shelf as the newest image `name`; `file` itself was moved there.

    Checked before: it is one whole zstd stream (with its own checksum, where it has one), of whole sectors, holding a
    GPT with a partition named `root`; and its SHA-256 is `sha256`, where that is given. Safe to repeat. Raises Rejected
    naming what is wrong, InvalidRequest without the program zstd, Conflict while `name` is built or imported.
    """
    require_tools({"zstd": "zstd"})
    digest = file_digest(file)
    if sha256 and digest != sha256.lower():
        raise Rejected(f"the image has SHA-256 {digest}, expected {sha256.lower()}", hint="fetch the file again")
    content = _unpacked(file)
    _check_disk(content)
    record = ImageRecord(
        name=name,
        suite="",
        kernel="imported",
        kernel_version="",
        sha256=digest,
        size_bytes=file.stat().st_size,
        raw_size_bytes=content.raw_size_bytes,
        built_at=datetime.now(UTC),
        inputs_digest=digest,
        recipe_digest="",
        packages={},
    )
    with build_lock(cache, name), work_directory(cache, name) as work:
        finished = work / "finished"
        finished.mkdir()
        os.replace(file, finished / IMAGE_FILE)
        (finished / IMAGE_FILE).chmod(0o644)
        (finished / RECORD_FILE).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
        publish(finished, cache / name / digest)
    return BuiltImage(record=record, path=cache / name / digest / IMAGE_FILE)


def _unpacked(file: Path) -> _Content:
    """What the stream holds. Raises Rejected when it is not zstd, or ends early."""
    size, head = 0, bytearray()
    with subprocess.Popen(
        ["zstd", "-dcq", "--", str(file)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as zstd:
        assert zstd.stdout is not None  # noqa: S101 - asked for above
        assert zstd.stderr is not None  # noqa: S101
        while piece := zstd.stdout.read(_CHUNK):
            if len(head) < _CHUNK:
                head += piece[: _CHUNK - len(head)]
            size += len(piece)
        complaint = zstd.stderr.read().decode(errors="replace").strip().replace(f"{file}: ", "")
    if zstd.returncode != 0:
        raise Rejected(
            f"the image is no whole zstd stream: {complaint[-200:]}",
            hint="compress the raw disk with `zstd disk.raw`, and copy it whole",
        )
    return _Content(size, bytes(head))


def _check_disk(content: _Content) -> None:
    hint = "an image is a whole raw disk: GPT, its root file system (ext4) in a partition named `root`"
    if content.raw_size_bytes == 0 or content.raw_size_bytes % _SECTOR:
        raise Rejected(f"the image unpacks to {content.raw_size_bytes} bytes, no whole sectors", hint=hint)
    names = partition_names(content.head)
    if names is None:
        raise Rejected("the image has no GPT", hint=hint)
    if _ROOT not in names:
        raise Rejected(f"the image has no partition named {_ROOT}, but {', '.join(names) or 'none'}", hint=hint)


def partition_names(disk: bytes) -> tuple[str, ...] | None:
    """The names of the partitions in the GPT at the beginning of a disk; None when there is no GPT. Pure.

    Source: UEFI 2.10, sections 5.3.2 and 5.3.3.
    """
    if disk[_SECTOR : _SECTOR + 8] != b"EFI PART":
        return None
    header = _HEADER.unpack_from(disk, _SECTOR)
    first_lba, count, size = header[10], header[11], header[12]
    if not 128 <= size <= 4096 or count > 1024:
        raise InvalidRequest("the partition table of the image cannot be read", hint="make it with sfdisk or sgdisk")
    start = first_lba * _SECTOR
    entries = (disk[start + i * size : start + (i + 1) * size] for i in range(count))
    used = [entry for entry in entries if len(entry) == size and any(entry[:16])]
    return tuple(entry[56:128].decode("utf-16-le", "replace").rstrip("\0") for entry in used)
