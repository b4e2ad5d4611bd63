"""The files of one installation that belong to the supervisor, and its record of what runs."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from levier.domain.errors import InvalidRequest
from levier.supervisor.lineage import ProcessIdentity, boot_id


@dataclass(frozen=True, slots=True)
class StateDir:
    """Where an installation keeps its state; the supervisor owns `run/` and `log/` below it."""

    path: Path

    @property
    def run(self) -> Path:
        """Files that mean something only while processes run."""
        return self.path / "run"

    @property
    def record_file(self) -> Path:
        """The supervisor's record."""
        return self.run / "supervisor.json"

    def log(self, name: str) -> Path:
        """The log file of the process `name`."""
        return self.path / "log" / f"{name}.log"

    def create(self) -> None:
        """The directories exist, readable by their owner alone. Safe to repeat. Raises InvalidRequest.

        Others may pass through a state directory that is made here: dnsmasq gives up its privileges and still reads
        `netboot/` below it.
        """
        try:
            if not self.path.exists():
                self.path.mkdir(parents=True)
                self.path.chmod(0o711)  # whatever the umask
            for directory in (self.run, self.path / "log"):
                directory.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise InvalidRequest(
                f"cannot make {self.path}: {error.strerror}", hint="choose another place with --state-dir, or be root"
            ) from error

    def lock(self) -> int | None:
        """An open file that holds the installation's lock until it is closed or this process ends; None if taken.

        The kernel drops it with its process, however that ends, so there is no stale lock (flock(2)).
        """
        fd = os.open(self.run / "supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return fd


class Phase(StrEnum):
    """Where the installation as a whole is."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    FAILED = "failed"


class ProcessState(StrEnum):
    """Where one process is."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    BACKING_OFF = "backing-off"
    STOPPED = "stopped"
    FAILED = "failed"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ProcessRecord(_Model):
    """One process as the supervisor last saw it."""

    state: ProcessState = ProcessState.WAITING
    pid: int | None = None
    started_ticks: int | None = None
    restarts: int = 0
    since: datetime
    last_exit: str = ""
    log: str


class Record(_Model):
    """`run/supervisor.json`: what runs, where it listens, and what a later `up` or `down` needs to find it again."""

    mark: str
    boot_id: str
    supervisor_pid: int
    supervisor_ticks: int
    started: datetime
    phase: Phase = Phase.STARTING
    error: str = ""
    failed_process: str = ""
    namespace: str | None = None
    ports: Mapping[str, int]
    urls: Mapping[str, str]
    stop_timeout_s: float
    """How long an ordered stop may take at most."""
    processes: dict[str, ProcessRecord]

    @property
    def supervisor(self) -> ProcessIdentity:
        """The supervisor's identity."""
        return ProcessIdentity(self.supervisor_pid, self.supervisor_ticks, self.boot_id)

    def identity(self, name: str) -> ProcessIdentity | None:
        """The identity of the process `name`; None while it does not run."""
        entry = self.processes[name]
        if entry.pid is None or entry.started_ticks is None:
            return None
        return ProcessIdentity(entry.pid, entry.started_ticks, self.boot_id)

    @property
    def of_this_boot(self) -> bool:
        """False when the machine was restarted since: then nothing of it can run."""
        return self.boot_id == boot_id()

    def save(self, state_dir: StateDir) -> None:
        """The record is on disk, replaced as a whole. Safe to repeat."""
        temporary = state_dir.record_file.with_suffix(".tmp")
        temporary.write_text(self.model_dump_json(indent=1))
        temporary.replace(state_dir.record_file)


def load_record(state_dir: StateDir) -> Record | None:
    """The record on disk; None when there is none. Safe to repeat. Raises InvalidRequest when it cannot be read."""
    try:
        return Record.model_validate_json(state_dir.record_file.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise InvalidRequest(
            f"{state_dir.record_file} is not a supervisor's record: {error}",
            hint="make sure that nothing of this installation runs, then remove the file",
        ) from error
