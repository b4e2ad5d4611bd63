"""`RemoteHost` on paramiko: one reused connection per host, shared by threads."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import paramiko

from drivers.ssh import files
from drivers.ssh.connection import Identity, connect, name_of
from drivers.ssh.execution import Finished, command_line, execute, raise_if_timed_out
from drivers.ssh.facts import gather_script, parse_facts
from drivers.ssh.options import SshOptions
from drivers.ssh.reboot import reboot_and_wait, wait_until_up
from levier.domain.errors import Busy, DriverError, InvalidRequest, Rejected, Unreachable
from levier.domain.inventory import HostFacts
from levier.domain.permit import Permit, unconditional
from levier.domain.ssh import CommandResult, FileStat, RemoteHost, SshTarget

_FACTS_TIMEOUT_S = 30.0
_FILE_TIMEOUT_S = 60.0
_FILE_BYTES_PER_S = 256 * 1024
"""The slowest network a file transfer is given time for."""
_QUOTED_STDERR_CHARS = 600
_SESSION_WAITS_S = (0.05, 0.1, 0.2, 0.4)
"""Seconds between attempts to open a session: sshd frees the one before a moment after it reported its end."""


class ParamikoHost:
    """A host over SSH as `levier.domain.ssh.RemoteHost` describes it. Nothing is connected until it is needed."""

    def __init__(self, target: SshTarget, options: SshOptions, permit: Permit = unconditional) -> None:
        self._target = target
        self._name = name_of(target)
        self._options = options
        self._permit = permit
        self._identity = Identity.of(target)
        self._connecting = threading.Lock()
        self._transport: paramiko.Transport | None = None
        self._in_use: Counter[paramiko.Transport] = Counter()
        """Sessions by connection: one that is given up for new sessions may still carry others."""
        self._last_failure: tuple[float, DriverError] | None = None
        self._slots = threading.BoundedSemaphore(options.max_sessions)

    def __repr__(self) -> str:
        return f"ParamikoHost({self._name})"

    def run(self, command: str, *, timeout_s: float = 60.0, check: bool = True, stdin: bytes = b"") -> CommandResult:
        """The command ended. It is given to `sh -c`; `timeout_s` counts on the host, which then ends its processes.

        Not safe to repeat blindly. Raises Rejected on a non-zero status if `check`; Unreachable, AuthFailed and Busy,
        when it was not sent; OutcomeUnknown when it was. Secrets belong on `stdin`: a command line is seen by ps and
        quoted in errors.
        """
        result, duration_s = self._execute(["sh", "-c", command], label=command, timeout_s=timeout_s, stdin=stdin)
        if check and result.exit_status:
            self._reject(f"`{_shortened(command)}`", result)
        text = (result.stdout.decode("utf-8", "replace"), result.stderr.decode("utf-8", "replace"))
        return CommandResult(result.exit_status, *text, duration_s)

    def upload(self, content: bytes, path: str, *, mode: int = 0o644, owner: str = "root", group: str = "root") -> bool:
        """The file holds `content` with that mode and owner; at no moment did it hold anything but the old or the new.

        True if it was replaced, False if it was so before (then nothing is written). A symbolic link at `path` is
        replaced by the file, never written through. Safe to repeat. Raises Rejected when the directory does not exist
        or `path` is one.
        """
        wanted = files.Wanted(content, mode, owner, group)
        if wanted.matches(self._script(files.PROBE, path).decode("utf-8", "replace")):
            return False
        self._script(files.REPLACE, path, wanted.mode_text, owner, group, wanted.digest, stdin=content)
        return True

    def download(self, path: str) -> FileStat | None:
        """The regular file at `path` (symbolic links are followed), or None. Safe to repeat.

        Raises Rejected for a directory.
        """
        return files.parse_read(self._script(files.READ, path))

    def remove(self, path: str) -> bool:
        """There is no file at `path`; a symbolic link goes, not its target. True if there was one. Safe to repeat."""
        return self._script(files.REMOVE, path).strip() == b"removed"

    def facts(self) -> HostFacts:
        """What the host is, in one round trip. Safe to repeat. Raises MalformedReply when the answer cannot be read."""
        label = "gathering facts"
        result, _ = self._execute(["sh", "-c", gather_script()], label=label, timeout_s=_FACTS_TIMEOUT_S)
        return parse_facts(result.stdout.decode("utf-8", "replace"))

    def reboot_and_wait(self, *, timeout_s: float = 600.0) -> str:
        """The host runs a new boot, whose boot id is returned. NOT safe to repeat: compare the boot id first.

        Raises OutcomeUnknown when no new boot answered within `timeout_s` (s), AuthFailed when another host key did.
        """
        return reboot_and_wait(self, timeout_s=timeout_s, drop_connection=self.close)

    def wait_until_up(self, *, timeout_s: float = 600.0, check: Callable[[], None] | None = None) -> None:
        """The host runs commands over a verified, authenticated connection. Safe to repeat.

        `check` is called before every attempt, and ends the waiting by raising (a cancellation). Raises the last
        Unreachable, Busy or OutcomeUnknown after `timeout_s` (s); AuthFailed at once.
        """
        wait_until_up(self, timeout_s=timeout_s, check=check or _nothing_to_check)

    def close(self) -> None:
        """The connection is closed; the next call makes another. Safe to repeat."""
        with self._connecting:
            transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()

    def _script(self, script: str, path: str, *args: str, stdin: bytes = b"") -> bytes:
        if not path.startswith("/"):
            raise InvalidRequest(f"{path!r} is no absolute path", hint="Give the path from the root directory on.")
        timeout_s = _FILE_TIMEOUT_S + len(stdin) / _FILE_BYTES_PER_S
        argv = ["sh", "-c", script, "levier", path, *args]
        result, _ = self._execute(argv, label=path, timeout_s=timeout_s, stdin=stdin)
        if result.exit_status:
            self._reject(path, result)
        return result.stdout

    def _execute(
        self, argv: Sequence[str], *, label: str, timeout_s: float, stdin: bytes = b""
    ) -> tuple[Finished, float]:
        """The only place that sends something: everything before `execute` may be repeated, nothing after."""
        line = command_line(argv, timeout_s=timeout_s, become=self._options.become)
        where = f"{self._name}: `{_shortened(label)}`"
        with self._session(wait_s=timeout_s) as channel:
            started = time.monotonic()
            limit = self._options.max_output_bytes
            result = execute(
                channel,
                line,
                timeout_s=timeout_s,
                stdin=stdin,
                max_output_bytes=limit,
                where=where,
                permit=self._permit,
            )
            duration_s = time.monotonic() - started
        raise_if_timed_out(result, duration_s=duration_s, timeout_s=timeout_s, where=where)
        return result, duration_s

    def _reject(self, what: str, result: Finished) -> None:
        stderr = result.stderr.decode("utf-8", "replace").strip()[-_QUOTED_STDERR_CHARS:]
        raise Rejected(
            f"{self._name}: {what} failed with status {result.exit_status}: {stderr or 'no message'}",
            hint="Mend the cause that the message names on the host, then repeat.",
        )

    @contextmanager
    def _session(self, *, wait_s: float) -> Iterator[paramiko.Channel]:
        if not self._slots.acquire(timeout=wait_s):
            raise Busy(
                f"{self._name}: all {self._options.max_sessions} sessions are busy for {wait_s:g} s",
                hint="Repeat later, or allow more with max_sessions (and sshd's MaxSessions).",
            )
        try:
            channel = self._open_channel()
            try:
                yield channel
            finally:
                self._leave(channel.get_transport())
        finally:
            self._slots.release()

    def _open_channel(self) -> paramiko.Channel:
        """A session over the reused connection, or over a new one if the old one proves dead: nothing was sent yet."""
        waits_s = iter(_SESSION_WAITS_S)
        while True:
            transport, reused = self._connected()
            try:
                return transport.open_session(timeout=self._options.handshake_timeout_s)
            except paramiko.ChannelException as error:
                self._leave(transport)
                if (wait_s := next(waits_s, None)) is not None:
                    time.sleep(wait_s)
                    continue
                raise Busy(
                    f"{self._name}: sshd refused another session: {error}",
                    hint="Repeat later, or set max_sessions below sshd's MaxSessions.",
                ) from error
            except (paramiko.SSHException, EOFError, OSError) as error:
                self._discard(transport)
                if not reused:
                    reason = str(error) or "end of file"
                    raise Unreachable(
                        f"{self._name}: no session: {reason}", hint="Check sshd's log on the host."
                    ) from error

    def _connected(self) -> tuple[paramiko.Transport, bool]:
        """A live connection, in use from now on, and whether it existed before.

        Threads that wait for the same attempt share its failure.
        """
        asked = time.monotonic()
        with self._connecting:
            if self._transport is not None and self._transport.is_active():
                self._in_use[self._transport] += 1
                return self._transport, True
            if self._last_failure is not None and self._last_failure[0] > asked:
                failure = self._last_failure[1]
                raise type(failure)(failure.message, hint=failure.hint) from failure
            self._permit()
            try:
                self._transport = connect(self._target, self._identity, self._options)
            except DriverError as error:
                self._last_failure = (time.monotonic(), error)
                raise
            self._in_use[self._transport] += 1
            return self._transport, False

    def _discard(self, transport: paramiko.Transport) -> None:
        """No new session comes over the connection; it is closed, once the commands that run over it have ended.

        A host that is slow to open one session is not dead: closing at once would lose what the others do.
        """
        with self._connecting:
            if self._transport is transport:
                self._transport = None
        self._leave(transport)

    def _leave(self, transport: paramiko.Transport) -> None:
        """A session over the connection is over."""
        with self._connecting:
            self._in_use[transport] -= 1
            unused = self._in_use[transport] <= 0
            if unused:
                del self._in_use[transport]
            last = unused and self._transport is not transport
        if last:
            transport.close()


def _nothing_to_check() -> None:
    """Whoever waits has no reason to stop."""


def _shortened(command: str) -> str:
    text = " ".join(command.split())
    return text if len(text) <= 120 else f"{text[:117]}…"


if TYPE_CHECKING:
    _conforms: type[RemoteHost] = ParamikoHost
