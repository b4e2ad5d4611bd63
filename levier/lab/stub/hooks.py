"""Where the life of a `stub` machine can be meddled with: one method for each place, all of which do nothing here."""

from __future__ import annotations

from pathlib import Path

from levier.lab.chassis import Boot


class Hooks:
    """What one machine's firmware, ramdisk and operating system ask before they go on. A fault overrides a method.

    A method that never returns hangs the machine at that place; power still ends it.
    """

    async def boot(self, boot: Boot) -> None:
        """The firmware is about to start."""

    async def agent_stage(self, stage: str) -> None:
        """The ramdisk is about to `claim`, `write`, `verify` or `seed`."""

    def image_bytes(self, piece: bytes) -> bytes:
        """What arrives of a piece of the image."""
        return piece

    def image_target(self, disk: Path) -> Path:
        """Where an image that is about to be fetched is written."""
        return disk

    async def ssh_command(self, command: str) -> bool:
        """Whether the connection drops before the end of `command` is told."""
        return False

    def clock_offset_s(self) -> float:
        """How far the machine's clock is ahead of the true time, in seconds."""
        return 0.0
