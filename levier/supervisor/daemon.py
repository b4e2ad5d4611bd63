"""An installation in the background: its supervisor as a daemon, and waiting for what becomes of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

from levier.domain.errors import LevierError, OutcomeUnknown
from levier.supervisor.catalogue import UpSettings, processes, wanted_ports
from levier.supervisor.control import OnChange, bring_loopback_up, end_leftovers, run_here
from levier.supervisor.lineage import identity_of
from levier.supervisor.logfile import tail
from levier.supervisor.ports import check_free
from levier.supervisor.statedir import Phase, Record, StateDir, load_record

_ASK_EVERY_S = 0.1
# Each process has a time-out of its own; this one is for a supervisor that hangs.
_LONGEST_START_S = 1800.0


def start(settings: UpSettings, on_change: OnChange) -> Record:
    """A supervisor runs in the background and everything it runs is ready. Not safe to repeat: see `running_record`.

    On a failure nothing is left running. Raises Conflict, InvalidRequest, or LevierError with the end of the log.
    """
    state_dir = StateDir(settings.state_dir)
    state_dir.create()
    _check(settings, state_dir)
    argv = [sys.executable, "-m", "levier.supervisor.daemon", json.dumps(settings.to_json())]
    with state_dir.log("supervisor").open("ab") as log:
        daemon = subprocess.Popen(
            argv,
            cwd=settings.state_dir,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # so that neither the terminal's end nor its Ctrl-C reaches it
        )
    try:
        return _wait_until_running(state_dir, daemon, on_change)
    except BaseException:
        _end(daemon)
        raise


def _check(settings: UpSettings, state_dir: StateDir) -> None:
    """What can be refused is refused here, in words, before anything is started. The daemon checks again."""
    processes(settings)
    lock = state_dir.lock()
    if lock is None:
        return
    try:
        end_leftovers(state_dir)
        if settings.namespace is not None:
            bring_loopback_up(settings.namespace)
        check_free(wanted_ports(settings))
    finally:
        os.close(lock)


def _wait_until_running(state_dir: StateDir, daemon: subprocess.Popen[bytes], on_change: OnChange) -> Record:
    deadline = time.monotonic() + _LONGEST_START_S
    while time.monotonic() < deadline:
        ended = daemon.poll() is not None
        record = load_record(state_dir)
        if record is not None and record.supervisor_pid == daemon.pid:
            on_change(record)
            if record.phase is Phase.RUNNING:
                return record
        if ended:
            raise _failure(state_dir, record)
        time.sleep(_ASK_EVERY_S)
    raise OutcomeUnknown(f"not everything was ready within {_LONGEST_START_S:g} s", hint="look at `levier status`")


def _failure(state_dir: StateDir, record: Record | None) -> LevierError:
    if record is None or not record.failed_process:
        log = state_dir.log("supervisor")
        return LevierError(f"the supervisor ended while starting:\n{tail(log)}", hint=f"the whole log is in {log}")
    log = state_dir.log(record.failed_process)
    return LevierError(f"{record.error}; the end of its log:\n{tail(log)}", hint=f"the whole log is in {log}")


def _end(daemon: subprocess.Popen[bytes]) -> None:
    if identity_of(daemon.pid) is not None and daemon.poll() is None:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait()


def main(argv: list[str]) -> int:
    """The supervisor ran until it was told to stop; 1 when the start failed."""
    try:
        run_here(UpSettings.from_json(json.loads(argv[0])), lambda _record: None)
    except LevierError as error:
        print(f"{error}\n{error.hint}".strip(), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
