"""Shows on a terminal, or line by line in a file, how an installation comes up."""

from __future__ import annotations

import time

from rich.console import Console
from rich.status import Status

from levier.supervisor.statedir import ProcessState, Record

_WORTH_A_LINE = {ProcessState.READY: "green", ProcessState.BACKING_OFF: "yellow", ProcessState.FAILED: "red"}


class Progress:
    """Prints every process that becomes ready or fails, and what is waited for. A context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._shown: dict[str, ProcessState] = {}
        self._status = Status("starting", console=console) if console.is_terminal else None

    def __enter__(self) -> Progress:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def __call__(self, record: Record) -> None:
        """What changed since the last call is shown."""
        for name, entry in record.processes.items():
            if self._shown.get(name) is entry.state:
                continue
            self._shown[name] = entry.state
            if style := _WORTH_A_LINE.get(entry.state):
                seconds = time.monotonic() - self._began
                detail = f" ({entry.last_exit})" if entry.last_exit else ""
                self._console.print(f"  {name:<8} [{style}]{entry.state.value}[/]{detail} after {seconds:.1f} s")
        if self._status is not None:
            waiting = [name for name, entry in record.processes.items() if entry.state is not ProcessState.READY]
            self._status.update(f"waiting for {', '.join(waiting)}" if waiting else record.phase.value)
