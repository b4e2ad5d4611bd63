"""Runs the coroutines of the guest in a process of its own, where waiting may block: without an event loop."""

from __future__ import annotations

import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from levier.domain.errors import Rejected
from levier.lab.guest import disk as disks
from levier.lab.guest.agent import Progress, Received
from levier.lab.guest.http import fetch, open_url
from levier.lab.guest.mishaps import Mishaps

T = TypeVar("T")
P = ParamSpec("P")


def run_blocking(work: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result. It must wait for nothing but what `patiently` made. Raises whatever it raises."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    work.close()
    raise RuntimeError("this coroutine waits for an event loop, and there is none")


def patiently(function: Callable[P, T]) -> Callable[P, Awaitable[T]]:
    """`function` as a coroutine that never gives way: whoever awaits it waits as long as it takes."""

    async def at_once(*args: P.args, **kwargs: P.kwargs) -> T:
        return function(*args, **kwargs)

    return at_once


class BlockingWire:
    """HTTP and time, as a process of its own has them; fits `levier.lab.guest.agent.Wire`."""

    async def fetch(self, url: str, *, bearer: str = "", body: bytes | None = None) -> bytes:
        """The whole body of the answer."""
        return fetch(url, bearer=bearer, body=body)

    async def sleep(self, seconds: float) -> None:
        """That many seconds have passed."""
        time.sleep(seconds)


class ImageDisk:
    """A raw disk file whose root file system this process can mount; fits `levier.lab.guest.agent.RootDisk`."""

    def __init__(self, disk: Path, *, mount_point: Path, written: Callable[[int], None], mishaps: Mishaps) -> None:
        self._disk = disk
        self._mishaps = mishaps
        self._mount_point = mount_point
        self._written = written

    @property
    def size_bytes(self) -> int:
        """The disk's size."""
        return self._disk.stat().st_size

    async def write(self, url: str, *, bearer: str, progress: Progress) -> Received:
        """The disk holds the image that `url` serves."""
        self._reach("write")
        target = self._mishaps.target(self._disk)

        def told(compressed_bytes: int) -> None:
            self._written(disks.allocated_bytes(self._disk))
            run_blocking(progress(compressed_bytes))

        with open_url(url, bearer=bearer) as answer:
            source = disks.Digesting(answer, arrived=self._mishaps.arrived)
            failure = ""
            try:
                disks.write_image(self._disk, source, progress=told, target=target)
            except Rejected as error:
                failure = error.message
        self._written(disks.allocated_bytes(self._disk))
        return Received(source.size_bytes, source.sha256, failure)

    async def verify(self) -> None:
        """The partition table that was written is there and names a root file system."""
        self._reach("verify")
        disks.root_partition(self._disk)

    async def unpack_seed(self, archive: bytes) -> None:
        """The root file system holds the files of the tar archive."""
        self._reach("seed")
        with disks.mounted_root(self._disk, self._mount_point) as root:
            disks.unpack_seed(archive, root)

    def _reach(self, stage: str) -> None:
        """The ramdisk goes on, or hangs until the power goes."""
        if self._mishaps.hangs(stage):
            while True:
                signal.pause()
