"""Real ways for a database to be away: killed, restarted, read-only, full, or silent about its last commit."""

from __future__ import annotations

import selectors
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import psycopg
from sqlalchemy import Engine

from levier.store.base import open_engine
from tests.integration.postgres_server import PostgresServer


class Outage(Protocol):
    """A database of a test's own, which can be taken away and given back."""

    url: str

    def begin(self, engine: Engine) -> None:
        """From now on the database cannot be used (fully), by `engine` either."""
        ...

    def end(self) -> None:
        """The database can be used again."""
        ...


class Killed:
    """A PostgreSQL server that dies by `how` and is started again."""

    def __init__(self, server: PostgresServer, url: str, how: signal.Signals) -> None:
        self.url = url
        self._server = server
        self._how = how

    def begin(self, engine: Engine) -> None:
        self._server.stop(self._how)

    def end(self) -> None:
        self._server.start()


class ReadOnlyServer:
    """A PostgreSQL server that takes no writes, as after a failover that made it the standby."""

    def __init__(self, server: PostgresServer, url: str) -> None:
        self.url = url
        self._server = server

    def begin(self, engine: Engine) -> None:
        self._set("on")

    def end(self) -> None:
        self._set("off")

    def _set(self, value: str) -> None:
        with psycopg.connect(self._server.administration(), autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")  # type: ignore[call-overload]
            before = connection.execute("SELECT pg_conf_load_time()").fetchone()
            connection.execute("SELECT pg_reload_conf()")
            while connection.execute("SELECT pg_conf_load_time()").fetchone() == before:
                pass  # every query gives the server the occasion to read its configuration


class SmallDisk:
    """A SQLite file on a tmpfs of its own, which is full or can only be read."""

    def __init__(self, folder: Path, template: Path) -> None:
        self._folder = folder
        self.url = f"sqlite:///{folder}/levier.db"
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "levier-test", str(folder)], check=True)
        shutil.copy(template, folder / "levier.db")

    def remove(self) -> None:
        subprocess.run(["umount", "--lazy", str(self._folder)], check=True)


class FullDisk(SmallDisk):
    """Not a byte is left on it."""

    def begin(self, engine: Engine) -> None:
        with suppress(OSError), (self._folder / "ballast").open("ab", buffering=0) as ballast:
            while True:
                ballast.write(b"x" * 4096)

    def end(self) -> None:
        (self._folder / "ballast").unlink()


class ReadOnlyDisk(SmallDisk):
    """Mounted for reading only. A file system with files open for writing refuses that: the pool's are closed first."""

    def begin(self, engine: Engine) -> None:
        engine.dispose()
        self._remount("ro")

    def end(self) -> None:
        self._remount("rw")

    def _remount(self, how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", str(self._folder)], check=True, capture_output=True)


class SilentCommit:
    """Forwards between Levier and PostgreSQL; when armed, the next COMMIT gets through and its answer is lost."""

    def __init__(self, server: PostgresServer, database: str, folder: Path) -> None:
        self.url = f"postgresql+psycopg://levier@/{database}?host={folder}"
        self.lost = 0
        self._server_path = str(server.home / ".s.PGSQL.5432")
        self._armed = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / ".s.PGSQL.5432"))
        self._listener.listen(16)
        threading.Thread(target=self._accept, daemon=True).start()

    def begin(self, engine: Engine) -> None:
        self.arm()

    def arm(self) -> None:
        """The next commit's answer will be lost."""
        self._armed.set()

    def end(self) -> None:
        assert not self._armed.is_set(), "a commit was made and its answer lost"

    def remove(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, selectors.DefaultSelector() as ready:
            server.connect(self._server_path)
            ready.register(client, selectors.EVENT_READ, server)
            ready.register(server, selectors.EVENT_READ, client)
            losing = False
            while True:
                for key, _ in ready.select():
                    data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                    if not data:
                        return
                    if key.fileobj is client and b"COMMIT" in data and self._armed.is_set():
                        self._armed.clear()
                        losing = True
                    if key.fileobj is server and losing:
                        self.lost += 1  # the server has committed and said so
                        return
                    key.data.sendall(data)


@contextmanager
def engine_on(url: str) -> Iterator[Engine]:
    engine = open_engine(url)
    yield engine
    engine.dispose()


def world(root: Path) -> dict[str, str]:
    """Everything that the file saga commands."""
    return {str(p.relative_to(root)): p.read_text() for p in sorted(root.rglob("*")) if p.is_file()}
