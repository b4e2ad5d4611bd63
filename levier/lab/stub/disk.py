"""The disk of a `stub` machine: a real image on a raw file, read and written without mounting it: without root."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import stat
import struct
import tarfile
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from levier.domain.errors import NotFound, Rejected
from levier.lab.guest.agent import Progress, Received
from levier.lab.stub.hooks import Hooks
from levier.lab.stub.programs import run
from levier.lab.stub.wire import AsyncWire, Digest

_SECTOR = 512
_PROGRESS_S = 1.0
_ROOT_PARTITION = "root"
_LBA, _COUNT_AND_SIZE = struct.Struct("<Q"), struct.Struct("<2I")
_NOISE = (
    "debugfs ",  # its version
    "while changing ownership",  # without root everything belongs to whoever unpacks it
    "Ext2 directory already exists",  # mkdir: so it need not be made
    "rm: File not found by ext2_lookup",  # so it need not be removed
)
"""What debugfs says besides errors."""


class StubDisk:
    """Fits `levier.lab.guest.agent.RootDisk`. `written` is told the bytes that the disk took, as it takes them."""

    def __init__(
        self, disk: Path, *, size_bytes: int, wire: AsyncWire, hooks: Hooks, written: Callable[[int], None]
    ) -> None:
        self._disk = disk
        self._size_bytes = size_bytes
        self._wire = wire
        self._hooks = hooks
        self._written = written

    @property
    def size_bytes(self) -> int:
        """The disk's size."""
        return self._size_bytes

    async def write(self, url: str, *, bearer: str, progress: Progress) -> Received:
        """The disk holds the image that `url` serves as one zstd stream, and zeros elsewhere."""
        await self._hooks.agent_stage("write")
        digest = Digest()
        try:
            async with self._wire.stream(url, bearer=bearer) as pieces:
                failure = await self._unpack(pieces, digest, progress, target=self._hooks.image_target(self._disk))
        finally:
            content_bytes = self._disk.stat().st_size
            os.truncate(self._disk, self._size_bytes)
        if content_bytes > self._size_bytes:
            raise Rejected(f"the image is larger than the disk ({self._size_bytes} bytes)")
        return Received(digest.size_bytes, digest.sha256, failure)

    async def _unpack(self, pieces: AsyncIterator[bytes], digest: Digest, progress: Progress, *, target: Path) -> str:
        """`target` holds what the stream unpacks to, and nothing else; or why it does not. All of it was taken in."""
        # Into an open file: one that zstd opened itself, it would remove after an error, and the machine its disk.
        with target.open("wb") as out:
            zstd = await asyncio.create_subprocess_exec(
                *("zstd", "-dcq", "--sparse"),
                stdin=asyncio.subprocess.PIPE,
                stdout=out,
                stderr=asyncio.subprocess.PIPE,
            )
        self._written(1)  # the disk was emptied: from here on it is not what it was
        try:
            await self._feed(zstd, pieces, digest, progress)
            _, complaint = await zstd.communicate()
        finally:
            if zstd.returncode is None:
                zstd.kill()
                await zstd.wait()
            self._written(max(1, self._disk.stat().st_blocks * _SECTOR))
        if not zstd.returncode:
            return ""
        return f"the image cannot be unpacked onto the disk: {complaint.decode(errors='replace').strip()[-300:]}"

    async def _feed(
        self, zstd: asyncio.subprocess.Process, pieces: AsyncIterator[bytes], digest: Digest, progress: Progress
    ) -> None:
        told, takes = time.monotonic(), True
        async for piece in pieces:
            arrived = self._hooks.image_bytes(piece)
            digest.add(arrived)
            # zstd may refuse the stream, its exit status and message say why. The rest is taken in for the digest.
            takes = takes and await _given(zstd, arrived)
            if time.monotonic() - told >= _PROGRESS_S:
                told = time.monotonic()
                await progress(digest.size_bytes)
        if zstd.stdin is not None:
            zstd.stdin.close()

    async def verify(self) -> None:
        """The partition table that was written is there and names a root file system."""
        await self._hooks.agent_stage("verify")
        root_offset(self._disk)

    async def unpack_seed(self, archive: bytes) -> None:
        """The root file system holds the files of the tar archive."""
        await self._hooks.agent_stage("seed")
        with tempfile.TemporaryDirectory(dir=self._disk.parent, prefix="seed-") as directory:
            script = _seed_script(archive, Path(directory))
            await _debugfs(self._disk, script, write=True)


async def _given(zstd: asyncio.subprocess.Process, piece: bytes) -> bool:
    """Whether it took the piece."""
    assert zstd.stdin is not None  # noqa: S101 - asked for
    try:
        zstd.stdin.write(piece)
        await zstd.stdin.drain()
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


def root_offset(disk: Path) -> int:
    """Where the partition named `root` begins, in bytes. Raises NotFound. Source: UEFI 2.10, section 5.3."""
    with disk.open("rb") as file:
        head = file.read(1 << 20)
    if head[_SECTOR : _SECTOR + 8] != b"EFI PART":
        raise NotFound("no partition table on the disk")
    (first,) = _LBA.unpack_from(head, _SECTOR + 72)
    count, size = _COUNT_AND_SIZE.unpack_from(head, _SECTOR + 80)
    for start in range(first * _SECTOR, min(first * _SECTOR + count * size, len(head)), max(size, 128)):
        entry = head[start : start + size]
        if entry[56:128].decode("utf-16-le", "replace").rstrip("\0") == _ROOT_PARTITION:
            return int(_LBA.unpack_from(entry, 32)[0]) * _SECTOR
    raise NotFound(f"no partition named {_ROOT_PARTITION} on the disk")


async def extract_root(disk: Path, target: Path) -> None:
    """`target` is a copy of the disk's root file system. Raises NotFound for a disk without one, Rejected.

    Owners are kept where that is allowed, which takes root.
    """
    root_offset(disk)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(mode=0o755)
    await _debugfs(disk, f'rdump / "{target}"\n', write=False)


async def _debugfs(disk: Path, script: str, *, write: bool) -> None:
    """The commands were carried out on the root file system. debugfs's exit status tells nothing: its errors do."""
    device = f"{disk}?offset={root_offset(disk)}"
    _, complaints = await run(["debugfs", *(["-w"] if write else []), "-f", "-", device], stdin=script.encode())
    lines = [line for line in complaints.decode(errors="replace").splitlines() if line.strip()]
    if wrong := [line for line in lines if not any(noise in line for noise in _NOISE)]:
        raise Rejected(f"the root file system on the disk: {'; '.join(wrong)[-300:]}")


def _seed_script(archive: bytes, work: Path) -> str:
    """debugfs commands that put the archive's files into a file system; the files are below `work`. Raises Rejected."""
    lines: list[str] = []
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as seed:
            for number, member in enumerate(seed):
                lines += _member_lines(seed, member, work / str(number))
    except (tarfile.TarError, OSError) as error:
        raise Rejected(f"the seed cannot be unpacked: {error}") from error
    return "\n".join(dict.fromkeys(lines)) + "\n"


def _member_lines(seed: tarfile.TarFile, member: tarfile.TarInfo, copy: Path) -> list[str]:
    """The commands for one file or directory and those above it; other kinds are left out, as no seed has any."""
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    if ".." in parts or any(char in member.name for char in '"\n'):
        raise Rejected(f"the seed holds a file that cannot be: {member.name!r}")
    path = "/".join(parts)
    lines = [f'mkdir "/{"/".join(parts[:depth])}"' for depth in range(1, len(parts) + member.isdir())]
    content = seed.extractfile(member)
    if content is not None:
        copy.touch(mode=0o600)
        copy.write_bytes(content.read())
        copy.chmod(member.mode & 0o7777)
        lines += [f'rm "/{path}"', f'write "{copy}" "/{path}"']
    elif member.isdir() and parts:
        lines.append(f'set_inode_field "/{path}" mode 0{stat.S_IFDIR | member.mode:o}')
    return lines
