"""One command in one SSH session: sent, fed, drained and timed."""

from __future__ import annotations

import contextlib
import shlex
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import paramiko

from levier.domain.errors import InvalidRequest, LevierError, MalformedReply, OutcomeUnknown
from levier.domain.permit import Permit

KILL_AFTER_S = 5.0
"""Seconds between SIGTERM and SIGKILL for what is still running at its time-out."""
_GRACE_S = KILL_AFTER_S + 3.0
"""Seconds that the host gets on top of the time-out to report that it ended the command."""
_CHUNK_BYTES = 64 * 1024
_ENDED_BY_TIMEOUT = frozenset({124, 128 + 9, 128 + 15})
"""timeout(1): 124; 137 when SIGKILL was needed; 143 when the shell reports its SIGTERM first."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that ended and whose exit status arrived."""

    exit_status: int
    stdout: bytes
    stderr: bytes


def command_line(argv: Sequence[str], *, timeout_s: float, become: bool) -> str:
    """What sshd's shell is given so that `argv` runs in a process group of its own and is ended there at its time-out.

    timeout(1) keeps the promise even when the connection is gone. The trailing `exit` turns death by a signal into an
    exit status (128 + signal), which SSH's exit-signal would hide. Raises InvalidRequest for a NUL byte or a time-out
    that is not positive.
    """
    if any("\0" in word for word in argv):
        raise InvalidRequest("the command holds a NUL byte", hint="Pass binary data on standard input.")
    if timeout_s <= 0:
        raise InvalidRequest(f"a time-out of {timeout_s} s leaves no time", hint="Give seconds above zero.")
    prefix = ["sudo", "-n", "--"] if become else []
    words = [*prefix, "timeout", "-k", f"{KILL_AFTER_S:g}", f"{timeout_s:.3f}", *argv]
    return f"{shlex.join(words)}; exit $?"


def execute(
    channel: paramiko.Channel,
    line: str,
    *,
    timeout_s: float,
    stdin: bytes,
    max_output_bytes: int,
    where: str,
    permit: Permit,
) -> Finished:
    """The command ended by itself and all it wrote is here. Uses up `channel`.

    Not safe to repeat blindly. Raises OutcomeUnknown when the time ran out (the host ended the command's process
    group, or did not answer), or when the connection was lost; MalformedReply when the output is larger than allowed;
    LeaseLost when `permit` does, before it is sent or in the middle of standard input, which ends there.
    """
    exchange = _Exchange(channel, max_output_bytes, permit)
    # The library waits without limit for the answer to the request and for data: closing the channel ends every wait.
    watchdog = threading.Timer(timeout_s + _GRACE_S, exchange.abort)
    watchdog.daemon = True
    watchdog.start()
    try:
        finished = exchange.perform(line, stdin)
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise exchange.refused or _lost(where, timeout_s, exchange.aborted, str(error) or "end of file") from error
    finally:
        watchdog.cancel()
        _close(channel)
    if exchange.refused is not None:
        raise exchange.refused
    if exchange.overflowed:
        raise MalformedReply(
            f"{where}: more than {max_output_bytes} bytes of output", hint="Write the output to a file on the host."
        )
    if exchange.aborted or finished.exit_status < 0 or not channel.eof_received:
        # A status alone is not enough: output may still have been under way when the connection was lost.
        raise _lost(where, timeout_s, exchange.aborted, "the session ended before its output or without a status")
    return finished


def raise_if_timed_out(finished: Finished, *, duration_s: float, timeout_s: float, where: str) -> None:
    """Returns if the command ended by itself; raises OutcomeUnknown if timeout(1) ended it."""
    if duration_s >= timeout_s and finished.exit_status in _ENDED_BY_TIMEOUT:
        raise OutcomeUnknown(
            f"{where}: not finished after {timeout_s:g} s; its process group was ended on the host",
            hint="Read the state the command was to change before repeating it, or allow it more time.",
        )


def _lost(where: str, timeout_s: float, aborted: bool, reason: str) -> OutcomeUnknown:
    silent = f"no end {timeout_s + _GRACE_S:g} s after it was sent: a process holds its output open, or the host hangs"
    cause = silent if aborted else f"the connection was lost after it was sent: {reason}"
    return OutcomeUnknown(f"{where}: {cause}", hint="Read the state the command was to change before repeating it.")


def _close(channel: paramiko.Channel) -> None:
    """The session is over on our side; that telling the host fails on a lost connection changes nothing."""
    with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
        channel.close()


@dataclass(slots=True)
class _Exchange:
    channel: paramiko.Channel
    max_output_bytes: int
    permit: Permit
    aborted: bool = False
    refused: LevierError | None = None
    overflowed: bool = False
    _stderr: bytearray = field(default_factory=bytearray)

    def abort(self) -> None:
        self.aborted = True
        _close(self.channel)

    def perform(self, line: str, stdin: bytes) -> Finished:
        """All three streams move at the same time: a full window on one must not stop the others."""
        self.permit()
        self.channel.exec_command(line)
        threads = [threading.Thread(target=self._drain_stderr, daemon=True)]
        if stdin:
            threads.append(threading.Thread(target=self._feed, args=(stdin,), daemon=True))
        else:
            self.channel.shutdown_write()
        for thread in threads:
            thread.start()
        stdout = bytearray()
        while chunk := self.channel.recv(_CHUNK_BYTES):
            self._take(stdout, chunk)
        for thread in threads:
            thread.join()
        return Finished(self.channel.recv_exit_status(), bytes(stdout), bytes(self._stderr))

    def _drain_stderr(self) -> None:
        while chunk := self.channel.recv_stderr(_CHUNK_BYTES):
            self._take(self._stderr, chunk)

    def _take(self, into: bytearray, chunk: bytes) -> None:
        if len(into) + len(chunk) > self.max_output_bytes:
            self.overflowed = True
            _close(self.channel)
        else:
            into += chunk

    def _feed(self, stdin: bytes) -> None:
        try:
            view = memoryview(stdin)
            # In pieces: the library copies the rest of its argument after every packet.
            for start in range(0, len(view), _CHUNK_BYTES):
                self.permit()
                self.channel.sendall(bytes(view[start : start + _CHUNK_BYTES]))
            self.channel.shutdown_write()
        except LevierError as error:
            # The script on the host sees its input end early, and changes nothing.
            self.refused = error
            _close(self.channel)
        except (OSError, EOFError, paramiko.SSHException):
            # The command ended without reading all of it, as `head` does, or the connection was lost: the exit status,
            # or its absence, tells which.
            return
