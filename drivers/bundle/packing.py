"""A directory as one archive: the same content gives the same bytes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from drivers.artifacts.command import run_tool

_BLOCK = 4096
_LEVEL = 9
_EPOCH = "@315532800"
"""1980-01-01: every file's time. It says nothing of when, and is one that a zip file can hold."""
_NORMAL = (
    "--sort=name",
    f"--mtime={_EPOCH}",
    "--owner=root:0",
    "--group=root:0",
    "--mode=u+rw,go-w,a+rX",
    "--format=posix",
    "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
)


@dataclass(frozen=True, slots=True)
class Extent:
    """How much a directory holds: files of any kind, and bytes in whole blocks of 4 KiB."""

    files: int
    bytes: int


def measure(directory: Path) -> Extent:
    """What unpacking the directory takes. A file with two names counts once."""
    seen: set[tuple[int, int]] = set()
    files = size_bytes = 0
    for path, directories, names in os.walk(directory):
        size_bytes += _BLOCK
        links = [name for name in directories if os.path.islink(os.path.join(path, name))]
        for name in (*names, *links):
            status = os.lstat(os.path.join(path, name))
            files += 1
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                size_bytes += -(-status.st_size // _BLOCK) * _BLOCK
    return Extent(files, size_bytes)


def pack(directory: Path, target: Path) -> None:
    """`target` is the content of `directory` as a zstd-compressed tar; its entries begin with `./`.

    Order, times, owners and modes are made equal, so equal content gives equal bytes, on however many processors.
    """
    compressor = f"zstd --quiet --threads=0 --check -{_LEVEL}"
    command = ["tar", "--create", f"--file={target}", f"--use-compress-program={compressor}", *_NORMAL]
    run_tool([*command, f"--directory={directory}", "."], timeout_s=1800)
