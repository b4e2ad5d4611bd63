"""A PostgreSQL server of the tests' own: a fresh cluster in a temporary directory, on a Unix socket only."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psycopg

_START_S = 60


def binaries() -> Path:
    """Where initdb and postgres are: of the newest server installed, else what pg_config says."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: float(p.parts[-3]))
    if found:
        return found[-1].parent
    told = subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True, check=True)
    return Path(told.stdout.strip())


def _lives(pid: str) -> bool:
    """Whether the process does anything any more: one that nobody waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class PostgresServer:
    """A running server. It refuses to run as root, so root runs it as the user `postgres`."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="levier-pg-"))
        self._as_user: list[str] = ["setpriv", "--pdeathsig", "INT"]
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.home, user.pw_uid, user.pw_gid)
            self._as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig", "INT"]
        self._log = self.home / "log"
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        initdb = ["initdb", "-D", str(self.home / "data"), "-U", "levier", "-A", "trust", "-E", "UTF8", "--no-locale"]
        self._run([*initdb, "--no-sync"])

    def _run(self, command: list[str]) -> None:
        program = [*self._as_user, str(binaries() / command[0]), *command[1:]]
        subprocess.run(program, check=True, capture_output=True, timeout=_START_S, cwd=self.home)

    def start(self) -> None:
        """The server answers."""
        options = {"listen_addresses": "", "unix_socket_directories": str(self.home), "fsync": "off"}
        flags = [part for key, value in options.items() for part in ("-c", f"{key}={value}")]
        command = [*self._as_user, str(binaries() / "postgres"), "-D", str(self.home / "data"), *flags]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.home)
        deadline = time.monotonic() + _START_S
        while True:
            try:
                psycopg.connect(self.administration(), connect_timeout=2).close()
                return
            except psycopg.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"PostgreSQL did not start: {error}\n{self._log.read_text()}") from error
                time.sleep(0.05)  # between two looks at a server that is starting

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """The server is gone: SIGINT ends it at once and cleanly, SIGQUIT not, SIGKILL like its machine's crash."""
        if self._process is not None:
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
            self._process.send_signal(how)
            for pid in children if how is signal.SIGKILL else []:
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            self._process.wait(timeout=_START_S)
            self._process = None
            deadline = time.monotonic() + _START_S
            while any(_lives(pid) for pid in children):
                assert time.monotonic() < deadline, "processes of a dead PostgreSQL server live on"
                time.sleep(0.01)  # before they are gone, no other server can start

    def remove(self) -> None:
        """Server and files are gone."""
        self.stop()
        shutil.rmtree(self.home)

    def new_database(self, *, template: str = "template0") -> str:
        """The name of a new database, a copy of `template`."""
        name = f"t{next(self._numbers)}"
        with psycopg.connect(self.administration(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")  # type: ignore[call-overload]
        return name

    def url(self, database: str) -> str:
        """What levier.store.base.open_engine takes."""
        return f"postgresql+psycopg://levier@/{database}?host={self.home}"

    def administration(self) -> str:
        """What psycopg.connect takes, to command the server itself."""
        return f"host={self.home} user=levier dbname=postgres"
