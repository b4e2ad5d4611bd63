"""Starts processes in the order of their dependencies, keeps them running, stops them in reverse."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from levier.domain.errors import LevierError
from levier.supervisor.child import Child
from levier.supervisor.lineage import end_all
from levier.supervisor.logfile import RotatingLog
from levier.supervisor.readiness import Prober
from levier.supervisor.spec import ProcessSpec, in_start_order
from levier.supervisor.statedir import Phase, ProcessState, Record, StateDir

_ASK_EVERY_S = 0.1
_log = structlog.get_logger("levier.supervisor")


class StartFailed(LevierError):
    """A process did not become ready; everything was stopped again."""

    def __init__(self, process: str, reason: str) -> None:
        super().__init__(f"{process} did not start: {reason}")
        self.process = process


class Supervisor:
    """Runs `specs` until told to stop. `on_change` is called after every change of the record."""

    def __init__(
        self,
        specs: tuple[ProcessSpec, ...],
        *,
        state_dir: StateDir,
        record: Record,
        on_change: Callable[[Record], None] = lambda _record: None,
    ) -> None:
        self._specs = in_start_order(specs)
        self._state_dir = state_dir
        self.record = record
        self._on_change = on_change
        self._prober = Prober()
        self._ready = {spec.name: asyncio.Event() for spec in specs}
        self._stopping = asyncio.Event()
        self._children: dict[str, Child] = {}

    def stop(self) -> None:
        """An ordered stop has begun; `run` returns when it is through. Safe to repeat."""
        self._stopping.set()

    async def run(self) -> None:
        """Everything ran until `stop`, and nothing runs any more.

        Raises StartFailed when a process does not become ready at first; then nothing runs any more either.
        """
        self._save()
        keepers = {spec.name: asyncio.create_task(self._keep(spec), name=spec.name) for spec in self._specs}
        try:
            await self._until_stopped(keepers)
        finally:
            self._phase(Phase.STOPPING)
            await self._stop_all(keepers)
            self._prober.close()

    async def _until_stopped(self, keepers: dict[str, asyncio.Task[None]]) -> None:
        all_ready = asyncio.create_task(self._all_ready())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({all_ready, stopping, *keepers.values()}, return_when=asyncio.FIRST_COMPLETED)
            self._raise_failures(keepers)
            if all_ready.done():
                self._phase(Phase.RUNNING)
            await asyncio.wait({stopping, *keepers.values()}, return_when=asyncio.FIRST_COMPLETED)
            self._raise_failures(keepers)
        finally:
            all_ready.cancel()
            stopping.cancel()

    async def _all_ready(self) -> None:
        for ready in self._ready.values():
            await ready.wait()

    @staticmethod
    def _raise_failures(keepers: dict[str, asyncio.Task[None]]) -> None:
        for task in keepers.values():
            if task.done():
                task.result()

    async def _keep(self, spec: ProcessSpec) -> None:
        """The process is running whenever it can, from when its dependencies are ready. Ends by being cancelled."""
        for name in spec.depends_on:
            await self._ready[name].wait()
        log = RotatingLog(self._state_dir.log(spec.name))
        failures = 0
        while True:
            began = time.monotonic()
            child = self._launch(spec, log)
            ended = await self._watch(spec, child, began)
            failures = 1 if time.monotonic() - began >= spec.restart.stable_s else failures + 1
            _log.warning("process ended by itself", process=spec.name, how=ended)
            if not self._ready[spec.name].is_set() and failures >= spec.restart.start_attempts:
                self._note(spec, ProcessState.FAILED, ended)
                raise StartFailed(spec.name, ended)
            self._note(spec, ProcessState.BACKING_OFF, ended)
            await asyncio.sleep(spec.restart.delay_s(failures))
            self.record.processes[spec.name].restarts += 1

    def _launch(self, spec: ProcessSpec, log: RotatingLog) -> Child:
        child = Child.start(spec, mark=self.record.mark, cwd=str(self._state_dir.path), log=log)
        self._children[spec.name] = child
        entry = self.record.processes[spec.name]
        if child.identity is not None:
            entry.pid, entry.started_ticks = child.identity.pid, child.identity.started_ticks
        self._note(spec, ProcessState.STARTING, entry.last_exit)
        return child

    async def _watch(self, spec: ProcessSpec, child: Child, began: float) -> str:
        """How the process ended. Raises StartFailed when it is not ready in time for the first time."""
        ended = asyncio.create_task(child.ended())
        first = not self._ready[spec.name].is_set()
        while not ended.done():
            if await self._prober.is_ready(spec, started=began):
                if not ended.done():
                    self._ready[spec.name].set()
                    self._note(spec, ProcessState.READY, self.record.processes[spec.name].last_exit)
                    _log.info("ready", process=spec.name, seconds=round(time.monotonic() - began, 1))
                break
            if time.monotonic() - began > spec.start_timeout_s:
                reason = f"not ready after {spec.start_timeout_s:g} s"
                if first:
                    self._note(spec, ProcessState.FAILED, reason)
                    raise StartFailed(spec.name, reason)
                await child.stop()
                return reason
            await asyncio.wait({ended}, timeout=_ASK_EVERY_S)
        return await ended

    async def _stop_all(self, keepers: dict[str, asyncio.Task[None]]) -> None:
        for task in keepers.values():
            task.cancel()
        await asyncio.gather(*keepers.values(), return_exceptions=True)
        for spec in reversed(self._specs):
            child = self._children.get(spec.name)
            if child is None:
                continue
            how = await child.stop()
            if self.record.processes[spec.name].state is not ProcessState.FAILED:
                self._note(spec, ProcessState.STOPPED, how)
            _log.info("stopped", process=spec.name, how=how)
        await asyncio.to_thread(end_all, self.record.mark)

    def _note(self, spec: ProcessSpec, state: ProcessState, last_exit: str) -> None:
        entry = self.record.processes[spec.name]
        entry.state, entry.last_exit, entry.since = state, last_exit, datetime.now(UTC)
        if state in (ProcessState.STOPPED, ProcessState.BACKING_OFF, ProcessState.FAILED):
            entry.pid = entry.started_ticks = None
        self._save()

    def _phase(self, phase: Phase) -> None:
        self.record.phase = phase
        _log.info("installation", phase=phase.value)
        self._save()

    def _save(self) -> None:
        self.record.save(self._state_dir)
        self._on_change(self.record)
