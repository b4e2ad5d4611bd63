"""Wakes held requests when an operation, in another process, gives an agent a new instruction."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress

from levier.domain.errors import LevierError

_log = logging.getLogger("levier.boot")


class InstructionWatch:
    """One query per period for all waiting agents together, and none while no agent waits.

    The database is looked at, rather than a message awaited, because SQLite can tell other processes nothing.
    """

    def __init__(self, read_versions: Callable[[], Mapping[str, int]], *, period_s: float) -> None:
        self._read_versions = read_versions
        self._period_s = period_s
        self._waiters: dict[asyncio.Future[None], tuple[str, int]] = {}
        self._wanted = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Changes are noticed inside the block."""
        task = asyncio.create_task(self._run())
        task.add_done_callback(_tell_defect)
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def changed(self, entry_id: str, *, known: int, timeout_s: float) -> None:
        """The entry's instruction is no longer version `known`, the entry is gone, or `timeout_s` are over."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = (entry_id, known)
        self._wanted.set()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await waiter
        finally:
            self._waiters.pop(waiter, None)

    async def _run(self) -> None:
        while True:
            await self._wanted.wait()
            if not self._waiters:
                self._wanted.clear()
                continue
            self._wake(await self._versions())
            await asyncio.sleep(self._period_s)

    async def _versions(self) -> Mapping[str, int] | None:
        try:
            return await asyncio.to_thread(self._read_versions)
        except LevierError as error:
            _log.warning("cannot look for new instructions, agents are answered late: %s", error)
            return None

    def _wake(self, versions: Mapping[str, int] | None) -> None:
        if versions is None:
            return
        for waiter, (entry_id, known) in list(self._waiters.items()):
            if versions.get(entry_id) != known and not waiter.done():
                waiter.set_result(None)


def _tell_defect(task: asyncio.Task[None]) -> None:
    """A watch that ended by itself is a defect; agents are then answered only when their hold is over."""
    if not task.cancelled() and task.exception() is not None:
        _log.critical("the watch for new instructions ended", exc_info=task.exception())
