"""What stands behind a BMC: the seam between a machine's power logic and what really runs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from levier.domain.bmc import BootDevice


@dataclass(frozen=True, slots=True)
class Boot:
    """One boot of a machine. `device` is PXE or DISK; `number` counts from 1."""

    number: int
    device: BootDevice


class EndReason(StrEnum):
    """Why a boot ended by itself."""

    REBOOT = "guest-reboot"
    POWER_OFF = "guest-power-off"
    CRASH = "crash"


@dataclass(frozen=True, slots=True)
class BootEnd:
    """A boot that ended by itself. `detail` says more about a crash."""

    reason: EndReason
    detail: str = ""


IMAGE_SIZED = 64 * 1024 * 1024
"""A network boot that wrote more than this wrote an image: for a chassis that sees bytes only."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a boot wrote to the disk. `image` when it was an image, or a part of one."""

    size_bytes: int = 0
    image: bool = False

    @classmethod
    def counted(cls, size_bytes: int, *, device: BootDevice | None) -> Written:
        """What is known from the number of bytes alone."""
        return cls(size_bytes, image=device is BootDevice.PXE and size_bytes > IMAGE_SIZED)


class Chassis(Protocol):
    """One machine without its BMC. Every call comes from the daemon's event loop, one at a time, but `ended`."""

    async def start(self, boot: Boot) -> None:
        """The firmware runs. Raises OSError or a LevierError when it cannot; nothing runs then."""
        ...

    async def ended(self) -> BootEnd:
        """Returns once the boot has ended by itself; `stop` is to be called afterwards."""
        ...

    async def stop(self) -> None:
        """Nothing of the machine runs, as if the plug was pulled. Safe to repeat."""
        ...

    async def soft_off(self) -> None:
        """The operating system, if one runs, was asked to shut down."""
        ...

    async def written(self) -> Written:
        """What was written to the disk in this boot; after `stop`, in the one before."""
        ...

    @property
    def address(self) -> str | None:
        """The address its operating system has, where the chassis knows; None otherwise."""
        ...

    @property
    def pid(self) -> int | None:
        """The machine's main process, None when nothing runs."""
        ...
