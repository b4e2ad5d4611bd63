"""The disk of an `nspawn` machine: writing an image onto it and finding the root file system on it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from levier.domain.errors import NotFound, Rejected
from levier.lab.commands import run_program

_CHUNK = 1 << 20
_SECTOR = 512
_PROGRESS_S = 1.0
ROOT_PARTITION = "root"
_GPT_TAIL = 2 << 20
"""What may stay free at the end: the spare partition table, and rounding to whole MiB."""
_START = re.compile(r"start= *(\d+)")
_SIZE = re.compile(r"size= *\d+, *")


class Digesting:
    """Passes a stream on while counting and digesting it."""

    def __init__(self, source: IO[bytes], *, arrived: Callable[[bytes], bytes] = bytes) -> None:
        self._source = source
        self._arrived = arrived
        self._digest = hashlib.sha256()
        self.size_bytes = 0

    def read(self) -> bytes:
        """The next piece; empty at the end."""
        piece = self._arrived(self._source.read(_CHUNK))
        self._digest.update(piece)
        self.size_bytes += len(piece)
        return piece

    @property
    def sha256(self) -> str:
        """The digest of what was read so far."""
        return self._digest.hexdigest()


def write_image(disk: Path, source: Digesting, *, progress: Callable[[int], None], target: Path | None = None) -> None:
    """The disk holds the image that `source` streams as zstd, and zeros elsewhere.

    With `target` it is written there, and the disk is left empty. `progress` is told the compressed bytes taken in,
    about every second. Raises Rejected when the stream is broken or
    does not fit.
    """
    size_bytes = disk.stat().st_size
    # Like a discard of the whole disk: writing sparsely over old content would leave stale bytes.
    os.truncate(disk, 0)
    os.truncate(disk, size_bytes)
    zstd = subprocess.Popen(["zstd", "-dcq"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    dd = subprocess.Popen(
        ["dd", f"of={target or disk}", "bs=1M", "iflag=fullblock", "conv=sparse,notrunc", "status=none"],
        stdin=zstd.stdout,
        stderr=subprocess.PIPE,
    )
    if zstd.stdout:
        zstd.stdout.close()
    _feed(zstd, source, progress=progress)
    complaints = (zstd.stderr.read() if zstd.stderr else b"") + (dd.communicate()[1] or b"")
    if zstd.wait() or dd.returncode:
        raise Rejected(
            f"the image cannot be unpacked onto the disk: {complaints.decode(errors='replace').strip()[-300:]}"
        )
    if disk.stat().st_size != size_bytes:
        os.truncate(disk, size_bytes)
        raise Rejected(f"the image is larger than the disk ({size_bytes} bytes)")


def _feed(zstd: subprocess.Popen[bytes], source: Digesting, *, progress: Callable[[int], None]) -> None:
    if zstd.stdin is None:
        raise Rejected("zstd was started without an input")
    told, sink = time.monotonic(), zstd.stdin
    try:
        while piece := source.read():
            sink.write(piece)
            if time.monotonic() - told >= _PROGRESS_S:
                told = time.monotonic()
                progress(source.size_bytes)
    except BrokenPipeError:
        # zstd refused the stream: its exit status and message say why. The rest is taken in for the digest.
        while source.read():
            continue
    finally:
        with contextlib.suppress(BrokenPipeError):
            sink.close()


def allocated_bytes(disk: Path) -> int:
    """How much of the sparse disk holds data."""
    return disk.stat().st_blocks * _SECTOR


def root_partition(disk: Path) -> tuple[int, int]:
    """Start and size in bytes of the GPT partition named `root`. Raises NotFound."""
    try:
        table = json.loads(run_program(["sfdisk", "--json", str(disk)]))["partitiontable"]
    except Rejected as error:
        raise NotFound(f"no partition table on the disk: {error}") from error
    sector = int(table.get("sectorsize", _SECTOR))
    for partition in table.get("partitions", []):
        if partition.get("name") == ROOT_PARTITION:
            return int(partition["start"]) * sector, int(partition["size"]) * sector
    raise NotFound(f"no partition named {ROOT_PARTITION} on the disk")


def mount_root(disk: Path, where: Path) -> None:
    """The root file system is mounted at `where`, in this process's mount namespace. Raises NotFound and Rejected."""
    start, size = root_partition(disk)
    where.mkdir(exist_ok=True)
    options = f"loop,offset={start},sizelimit={size}"
    run_program(["mount", "-t", "ext4", "-o", options, str(disk), str(where)])


def grow_root(disk: Path) -> None:
    """The root partition and its file system reach to the end of the disk, if the partition is the last one.

    On a real disk the operating system does that at its first boot; in a container it sees no disk. Safe to repeat.
    Raises NotFound and Rejected.
    """
    start, size = root_partition(disk)
    if disk.stat().st_size - start - size <= _GPT_TAIL:
        return
    script = _grown_table(run_program(["sfdisk", "--dump", str(disk)]))
    if script is None:
        return
    run_program(["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", str(disk)], stdin=script)
    start, size = root_partition(disk)
    # Not resize2fs' own ?offset=, which ruins a partition table, nor while mounted, which needs CAP_SYS_RESOURCE.
    with _loop_device(disk, start=start, size=size) as device:
        # -f: without a check before, which a file system that was made or unmounted just now does not need.
        run_program(["resize2fs", "-f", device])


@contextmanager
def _loop_device(disk: Path, *, start: int, size: int) -> Iterator[str]:
    """A block device over that part of the disk; the kernel detaches it when this process closes it, or dies."""
    find = ["losetup", "--find", "--show", "--nooverlap", "--offset", str(start), "--sizelimit", str(size), str(disk)]
    device = run_program(find).strip()
    held = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # While it is open, detaching only marks it: it goes with the last close.
        run_program(["losetup", "--detach", device])
        yield device
    finally:
        os.close(held)


def _grown_table(dump: str) -> str | None:
    """The partition table with the root partition as large as can be; None when another one comes after it."""
    lines = [line for line in dump.splitlines() if not line.startswith("last-lba:")]
    starts = {number: int(found[1]) for number, line in enumerate(lines) if (found := _START.search(line))}
    last = max(starts, key=lambda number: starts[number])
    if f'name="{ROOT_PARTITION}"' not in lines[last]:
        return None
    lines[last] = _SIZE.sub("", lines[last])
    return "\n".join(lines) + "\n"


@contextmanager
def mounted_root(disk: Path, where: Path) -> Iterator[Path]:
    """The root file system at `where`, written back and unmounted afterwards."""
    mount_root(disk, where)
    try:
        yield where
    finally:
        run_program(["umount", str(where)])


def unpack_seed(archive: bytes, root: Path) -> None:
    """The files of the tar archive are below `root`. Raises Rejected."""
    tar = subprocess.Popen(
        ["tar", "--extract", "--numeric-owner", "--preserve-permissions", "--directory", str(root), "--file", "-"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    _, complaints = tar.communicate(archive)
    if tar.returncode:
        raise Rejected(f"the seed cannot be unpacked: {complaints.decode(errors='replace').strip()[-300:]}")
