"""A `stub` machine whose life goes wrong where faults are armed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import NoReturn

from levier.domain.bmc import BootDevice
from levier.lab.chassis import Boot
from levier.lab.faults import FaultKind, FaultSource
from levier.lab.guest.mishaps import Mishaps
from levier.lab.stub.hooks import Hooks

_SHOWN = 80


class FaultyLife(Hooks):
    """The hooks of one machine, answered by its armed faults."""

    def __init__(self, faults: FaultSource) -> None:
        self._faults = faults
        self._mishaps = Mishaps(faults)
        self._clock_offset_s = 0.0

    async def boot(self, boot: Boot) -> None:
        """The machine's clock is set; a boot from the disk may end here."""
        clock = self._faults.due(FaultKind.CLOCK_OFF, boot=str(boot.number))
        self._clock_offset_s = clock.seconds or 0.0 if clock is not None else 0.0
        if boot.device is BootDevice.DISK and self._mishaps.never_returns():
            await _for_ever()

    async def agent_stage(self, stage: str) -> None:
        """The ramdisk goes on, or hangs."""
        if self._mishaps.hangs(stage):
            await _for_ever()

    def image_target(self, disk: Path) -> Path:
        """Where the image goes."""
        return self._mishaps.target(disk)

    def image_bytes(self, piece: bytes) -> bytes:
        """What arrives of a piece of the image."""
        return self._mishaps.arrived(piece)

    async def ssh_command(self, command: str) -> bool:
        """Whether the connection drops before the command's end is told."""
        return self._faults.due(FaultKind.SSH_DROPS, ran=" ".join(command.split())[:_SHOWN]) is not None

    def clock_offset_s(self) -> float:
        """How far the machine's clock is ahead, in seconds."""
        return self._clock_offset_s


async def _for_ever() -> NoReturn:
    """Until the power goes, which cancels the machine."""
    await asyncio.Event().wait()
    raise AssertionError
