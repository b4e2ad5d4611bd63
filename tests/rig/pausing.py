"""Processes stopped by SIGSTOP, and not while they keep everybody else out of an SQLite database."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path


def paused_outside_a_transaction(pid: int, database: Path) -> bool:
    """The process is stopped; False, and it runs again, when it holds SQLite's one write lock: nobody could take over.

    What happens then is another test's subject: everybody waits, as for any database that is away.
    """
    os.kill(pid, signal.SIGSTOP)
    _until_stopped(pid)
    try:
        with closing(sqlite3.connect(database, timeout=0.5, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.OperationalError:
        os.kill(pid, signal.SIGCONT)
        return False
    return True


def _until_stopped(pid: int) -> None:
    deadline = time.monotonic() + 60
    while not _stopped(pid):
        assert time.monotonic() < deadline, f"process {pid} does not stop"
        time.sleep(0.005)  # between two looks


def _stopped(pid: int) -> bool:
    """Every thread of the process is stopped."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return all((task / "stat").read_text().rsplit(")", 1)[1].split()[0] in "TZX" for task in tasks)
