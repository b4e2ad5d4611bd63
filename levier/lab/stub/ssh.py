"""The SSH server of a `stub` host: its keys are the files of the host, its commands run in the host's namespaces."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncssh

from levier.domain.errors import Rejected
from levier.lab.stub.hooks import Hooks
from levier.lab.stub.namespaces import ENVIRONMENT, Namespaces

_log = logging.getLogger(__name__)
_CHUNK = 64 * 1024
_KEY_FILES = re.compile(r"^\s*AuthorizedKeysFile\s+(.+)$", re.MULTILINE | re.IGNORECASE)
_DEFAULT_KEY_FILES = ".ssh/authorized_keys .ssh/authorized_keys2"
"""sshd_config(5)."""
_MOST_SESSIONS = 10
"""sshd_config(5), MaxSessions."""

Say = Callable[[str], None]


class _Login(asyncssh.SSHServer):
    """One connection: root, by a key that the host's files hold now."""

    def __init__(self, server: HostSsh) -> None:
        self._server = server

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._server.connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self._connection)

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        known = username == "root" and key in self._server.authorized_keys()
        self._server.say(f"sshd: key {key.get_fingerprint()} of {username}: {'accepted' if known else 'refused'}")
        return known


class HostSsh:
    """Serves SSH for one host while it runs."""

    def __init__(self, root: Path, namespaces: Namespaces, *, hooks: Hooks, say: Say) -> None:
        self._root = root
        self._namespaces = namespaces
        self._hooks = hooks
        self.say = say
        self.connections: set[asyncssh.SSHServerConnection] = set()
        self._acceptor: asyncssh.SSHAcceptor | None = None
        self._commands: set[asyncio.subprocess.Process] = set()
        self._sessions: dict[object, int] = {}

    async def listen(self, address: str, port: int) -> None:
        """The server answers on the address with the host's own keys. Raises Rejected when it cannot."""
        keys = [_host_key(path) for path in sorted((self._root / "etc/ssh").glob("ssh_host_*_key"))]
        if not keys:
            raise Rejected("sshd: no host key in /etc/ssh")
        try:
            self._acceptor = await asyncssh.listen(
                address,
                port,
                server_factory=lambda: _Login(self),
                server_host_keys=keys,
                process_factory=self._run,
                encoding=None,
                allow_pty=False,
                agent_forwarding=False,
                reuse_address=True,
                server_version="LevierStub",
            )
        except OSError as error:
            raise Rejected(f"sshd: cannot listen on {address} port {port}: {error.strerror}") from error

    async def stop(self) -> None:
        """Nothing answers any more, no connection is left, and every command is dead. Safe to repeat."""
        if self._acceptor is not None:
            self._acceptor.close()
            self._acceptor = None
        for connection in list(self.connections):
            connection.abort()
        for command in list(self._commands):
            await _end(command)

    def authorized_keys(self) -> list[asyncssh.SSHKey]:
        """The keys that may log in as root, read from the files that sshd_config names."""
        config = self._root / "etc/ssh/sshd_config"
        named = _KEY_FILES.search(config.read_text(encoding="utf-8")) if config.exists() else None
        found: list[asyncssh.SSHKey] = []
        for name in (named[1] if named else _DEFAULT_KEY_FILES).split():
            file = self._root / "root" / name.removeprefix("%h/").removeprefix("/root/")
            for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
                with contextlib.suppress(asyncssh.KeyImportError):
                    found.append(asyncssh.import_public_key(line))
        return found

    # --- commands --------------------------------------------------------------------------------------------------
    async def _run(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        """The session's command has ended, or was killed because its connection was lost."""
        connection = process.get_extra_info("connection")
        if self._sessions.get(connection, 0) >= _MOST_SESSIONS:
            process.stderr.write(b"too many sessions\n")
            process.exit(255)
            return
        self._sessions[connection] = self._sessions.get(connection, 0) + 1
        try:
            await self._serve(process)
        except (asyncssh.Error, OSError) as error:
            self.say(f"sshd: a session ended: {error}")
        except Exception:
            _log.exception("defect in an SSH session")
            raise
        finally:
            self._sessions[connection] -= 1

    async def _serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        argv = ["/bin/sh", "-c", process.command] if process.command else ["/bin/sh"]
        drops = await self._hooks.ssh_command(process.command or "")
        command = await asyncio.create_subprocess_exec(
            *self._namespaces.entering(argv),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        )
        self._commands.add(command)
        try:
            await _first(_carry(process, command), process.wait_closed())
            if drops:
                # As on a real host: what was started goes on to its end, and nobody is told of it.
                process.get_extra_info("connection").abort()
                return
            if command.returncode is not None:
                status = command.returncode
                process.stdout.write_eof()  # as OpenSSH does: all output was sent (RFC 4254, section 5.3)
                process.exit(status if status >= 0 else 128 - status)
        finally:
            await _end(command)
            self._commands.discard(command)


def _host_key(path: Path) -> asyncssh.SSHKey:
    try:
        return asyncssh.read_private_key(path)
    except (OSError, asyncssh.KeyImportError) as error:
        raise Rejected(f"sshd: the host key {path.name} cannot be read: {error}") from error


async def _carry(process: asyncssh.SSHServerProcess[bytes], command: asyncio.subprocess.Process) -> None:
    """The command has ended and all that it wrote was sent."""
    assert command.stdout is not None  # noqa: S101 - asked for
    assert command.stderr is not None  # noqa: S101
    feeding = asyncio.create_task(_feed(process.stdin, command))
    try:
        await asyncio.gather(_pass_on(command.stdout, process.stdout), _pass_on(command.stderr, process.stderr))
        await command.wait()
    finally:
        feeding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await feeding


async def _pass_on(source: asyncio.StreamReader, target: asyncssh.SSHWriter[bytes]) -> None:
    while piece := await source.read(_CHUNK):
        target.write(piece)
        await target.drain()


async def _feed(source: asyncssh.SSHReader[bytes], command: asyncio.subprocess.Process) -> None:
    assert command.stdin is not None  # noqa: S101 - asked for
    try:
        while piece := await source.read(_CHUNK):
            command.stdin.write(piece)
            await command.stdin.drain()
    except (BrokenPipeError, ConnectionResetError):
        return  # the command reads no more, as `head` does
    except asyncssh.Error:
        return  # the connection is lost: the session ends elsewhere
    finally:
        command.stdin.close()


async def _first(*work: Awaitable[None]) -> None:
    """One of them has ended; the others were cancelled. Raises what the first one raised."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def _end(command: asyncio.subprocess.Process) -> None:
    """The command and all that came of it is dead: with its process, its process-id namespace ends."""
    if command.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            command.kill()
        await command.wait()
