"""One running process: started, its output logged, stopped in order, and nothing left of it.

asyncio's own subprocess is not used: its `wait` returns only when every holder of the output pipe has ended, and a
descendant that outlives the process is one (seen with CPython 3.11).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess

from levier.supervisor.launch import command
from levier.supervisor.lineage import MARK, ProcessIdentity, end_all, identity_of
from levier.supervisor.logfile import RotatingLog
from levier.supervisor.spec import FileReady, ProcessSpec

_CHUNK = 64 * 1024
_DRAIN_S = 1.0


class Child:
    """A started process. Made by `start`, inside a running event loop."""

    def __init__(self, spec: ProcessSpec, process: subprocess.Popen[bytes], output: int, *, mark: str) -> None:
        self.spec = spec
        self.identity: ProcessIdentity | None = identity_of(process.pid)
        self._process = process
        self._mark = mark
        self._output = output
        self._exited = asyncio.Event()
        self._drained = asyncio.Event()
        self._watch_exit()

    @classmethod
    def start(cls, spec: ProcessSpec, *, mark: str, cwd: str, log: RotatingLog) -> Child:
        """The process runs, in a session of its own, so that a terminal's Ctrl-C reaches only the supervisor."""
        if isinstance(spec.ready, FileReady):
            spec.ready.path.unlink(missing_ok=True)
        own_mark = f"{mark}:{spec.name}"
        output, write_end = os.pipe2(os.O_CLOEXEC)
        try:
            process = subprocess.Popen(
                command(spec.argv, parent=os.getpid(), namespace=spec.namespace),
                cwd=cwd,
                env={**os.environ, **spec.env, MARK: own_mark},
                stdin=subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                start_new_session=True,
            )
        finally:
            os.close(write_end)
        child = cls(spec, process, output, mark=own_mark)
        child._pump_into(log)
        return child

    @property
    def alive(self) -> bool:
        """Whether the process itself still runs. Safe to repeat."""
        return not self._exited.is_set()

    async def ended(self) -> str:
        """How the process ended, in words; neither it nor a descendant of it runs any more. Safe to repeat."""
        await self._exited.wait()
        status = self._process.wait()
        # What it started and left behind would hold its ports and files when it is started anew.
        await asyncio.to_thread(end_all, self._mark)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                await self._drained.wait()
        if status < 0:
            return f"killed by {signal.Signals(-status).name}"
        return f"exited with status {status}"

    async def stop(self) -> str:
        """The process was asked to stop, and killed after `stop_timeout_s`; how it ended. Safe to repeat."""
        self._process.send_signal(self.spec.stop_signal)
        try:
            async with asyncio.timeout(self.spec.stop_timeout_s):
                await self._exited.wait()
        except TimeoutError:
            self._process.kill()
        return await self.ended()

    def _watch_exit(self) -> None:
        """A pidfd becomes readable when its process ends, pidfd_open(2)."""
        fd = os.pidfd_open(self._process.pid)
        loop = asyncio.get_running_loop()

        def over() -> None:
            loop.remove_reader(fd)
            os.close(fd)
            self._exited.set()

        loop.add_reader(fd, over)

    def _pump_into(self, log: RotatingLog) -> None:
        """What the process and its descendants say goes to the log, until the last of them has ended."""
        loop = asyncio.get_running_loop()

        def readable() -> None:
            data = os.read(self._output, _CHUNK)
            if data:
                log.write(data)
                return
            loop.remove_reader(self._output)
            os.close(self._output)
            self._drained.set()

        loop.add_reader(self._output, readable)
