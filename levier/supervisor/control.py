"""Brings an installation up in this process, or looks at and ends one that another process runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import structlog

from levier.domain.errors import Conflict, LevierError
from levier.supervisor.catalogue import UpSettings, processes, wanted_ports
from levier.supervisor.core import StartFailed, Supervisor
from levier.supervisor.lineage import boot_id, end_all, identity_of, is_alive, kill, wait_gone
from levier.supervisor.ports import check_free
from levier.supervisor.spec import ProcessSpec
from levier.supervisor.statedir import Phase, ProcessRecord, Record, StateDir, load_record

OnChange = Callable[[Record], None]
_STOP_MARGIN_S = 20.0


def running_record(state_dir: StateDir) -> Record | None:
    """The record of the supervisor that runs now; None when none does. Safe to repeat. Raises InvalidRequest."""
    record = load_record(state_dir)
    return record if record is not None and is_alive(record.supervisor) else None


def run_here(settings: UpSettings, on_change: OnChange) -> None:
    """Everything ran until SIGTERM or SIGINT, and nothing runs any more.

    Left-overs of a supervisor that was killed are ended first. Raises Conflict when another supervisor runs this
    installation or a port is taken, StartFailed when a process does not become ready.
    """
    state_dir = StateDir(settings.state_dir)
    state_dir.create()
    os.umask(0o077)  # databases and logs are their owner's alone, in the foreground too
    with _locked(state_dir), _logging_to(state_dir):
        specs = processes(settings)
        end_leftovers(state_dir)
        if settings.namespace is not None:
            bring_loopback_up(settings.namespace)
        check_free(wanted_ports(settings))
        record = _new_record(settings, specs, state_dir)
        try:
            asyncio.run(_supervise(specs, state_dir, record, on_change))
        except StartFailed as error:
            record.phase, record.error, record.failed_process = Phase.FAILED, str(error), error.process
            record.save(state_dir)
            raise
        state_dir.record_file.unlink(missing_ok=True)


def stop(state_dir: StateDir) -> bool:
    """Nothing of the installation runs any more; False when nothing did before. Safe to repeat.

    Ends what a killed supervisor left behind, too. Raises LevierError when something survives being killed.
    """
    record = load_record(state_dir)
    if record is None or not record.of_this_boot:
        state_dir.record_file.unlink(missing_ok=True)
        return False
    ran = kill(record.supervisor, signal.SIGTERM)
    if ran and wait_gone([record.supervisor], timeout_s=record.stop_timeout_s + _STOP_MARGIN_S):
        kill(record.supervisor, signal.SIGKILL)
    left = end_all(record.mark)
    state_dir.record_file.unlink(missing_ok=True)
    return ran or left > 0


def end_leftovers(state_dir: StateDir) -> int:
    """Nothing of an earlier run of the installation is left; how many processes were. To be called under the lock."""
    record = load_record(state_dir)
    left = end_all(record.mark) if record is not None and record.of_this_boot else 0
    state_dir.record_file.unlink(missing_ok=True)
    return left


def bring_loopback_up(namespace: str) -> None:
    """The loopback interface of the namespace is up; a new namespace's is down. Safe to repeat. Raises LevierError."""
    argv = ["ip", "-n", namespace, "link", "set", "lo", "up"]
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise LevierError(
            f"cannot use network namespace {namespace!r}: {result.stderr.strip()}", hint="`ip netns list` shows them"
        )


async def _supervise(specs: tuple[ProcessSpec, ...], state_dir: StateDir, record: Record, on_change: OnChange) -> None:
    supervisor = Supervisor(specs, state_dir=state_dir, record=record, on_change=on_change)
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, supervisor.stop)
    await supervisor.run()


def _new_record(settings: UpSettings, specs: tuple[ProcessSpec, ...], state_dir: StateDir) -> Record:
    own = identity_of(os.getpid())
    assert own is not None  # noqa: S101 - this process runs
    now = datetime.now(UTC)
    return Record(
        mark=str(uuid.uuid4()),
        boot_id=boot_id(),
        supervisor_pid=own.pid,
        supervisor_ticks=own.started_ticks,
        started=now,
        namespace=settings.namespace,
        ports=settings.ports,
        urls=settings.urls,
        stop_timeout_s=sum(spec.stop_timeout_s for spec in specs),
        processes={spec.name: ProcessRecord(since=now, log=str(state_dir.log(spec.name))) for spec in specs},
    )


@contextlib.contextmanager
def _locked(state_dir: StateDir) -> Iterator[None]:
    lock = state_dir.lock()
    if lock is None:
        raise Conflict(f"a supervisor already runs {state_dir.path}", hint="see `levier status`; `levier down` ends it")
    try:
        yield
    finally:
        os.close(lock)


@contextlib.contextmanager
def _logging_to(state_dir: StateDir) -> Iterator[None]:
    """The supervisor's own events go to its log file, one line each."""
    with state_dir.log("supervisor").open("a", buffering=1) as out:
        structlog.configure(
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"]),
            ],
            logger_factory=structlog.PrintLoggerFactory(out),
            cache_logger_on_first_use=False,
        )
        try:
            yield
        finally:
            structlog.reset_defaults()
