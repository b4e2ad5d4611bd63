"""What armed faults do to a machine's ramdisk and to its boots, whoever plays the machine."""

from __future__ import annotations

from pathlib import Path

from levier.lab.faults import FaultKind, FaultSource

_FULL = Path("/dev/full")
"""A device that the kernel finds full at every write (full(4)): the error is a disk's own."""


class Mishaps:
    """The faults of one machine's inside. It waits for nothing: where it says that something hangs, the caller does."""

    def __init__(self, faults: FaultSource) -> None:
        self._faults = faults
        self._corrupts = False

    def hangs(self, stage: str) -> bool:
        """Whether the ramdisk stops at this stage of its work for good: `claim`, `write`, `verify`, `seed`."""
        return self._faults.due(FaultKind.RAMDISK_HANGS, stage=stage) is not None

    def never_returns(self) -> bool:
        """Whether no host comes of this boot from the disk."""
        return self._faults.due(FaultKind.HOST_NEVER_RETURNS) is not None

    def target(self, disk: Path) -> Path:
        """Where the image that is about to come is written: the disk, or what is full; once for each image."""
        self._corrupts = self._faults.due(FaultKind.IMAGE_CORRUPTED) is not None
        return _FULL if self._faults.due(FaultKind.DISK_FULL) is not None else disk

    def arrived(self, piece: bytes) -> bytes:
        """What arrived of a piece of the image: with one bit turned over in the first piece of a corrupted one."""
        if not self._corrupts or not piece:
            return piece
        self._corrupts = False
        middle = len(piece) // 2
        return piece[:middle] + bytes([piece[middle] ^ 0x10]) + piece[middle + 1 :]
