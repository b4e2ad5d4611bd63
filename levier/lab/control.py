"""The daemon's control socket: one JSON request a line, one JSON answer a line."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from levier.domain.errors import OutcomeUnknown, Rejected, Unreachable

Answer = dict[str, Any]
Handler = Callable[[dict[str, Any]], Awaitable[Answer]]
_LINE_LIMIT = 1 << 22


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name of `path` that fits a socket address (108 bytes) however deep the directory is."""
    fd = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{fd}/{path.name}"
    finally:
        os.close(fd)


async def serve_control(path: Path, handler: Handler) -> asyncio.Server:
    """The socket at `path` (mode 0600) answers requests with what `handler` returns."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await handler(json.loads(line))).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError) as error:
            writer.write(json.dumps({"error": f"not understood: {error}"}).encode() + b"\n")
        finally:
            writer.close()

    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    earlier_mask = os.umask(0o177)
    try:
        with _short(path) as name:
            listening.bind(name)
    finally:
        os.umask(earlier_mask)
    return await asyncio.start_unix_server(serve, sock=listening, limit=_LINE_LIMIT)


def ask(path: Path, request: dict[str, Any], *, timeout_s: float = 10.0) -> Answer:
    """The daemon's answer. Raises Unreachable when no daemon listens, OutcomeUnknown when it does not answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            with _short(path) as name:
                connection.connect(name)
        except OSError as error:
            raise Unreachable(f"no lab daemon listens on {path}: {error}") from error
        try:
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as answers:
                line = answers.readline()
        except OSError as error:
            raise OutcomeUnknown(f"the lab daemon did not answer: {error}") from error
    if not line:
        raise OutcomeUnknown("the lab daemon ended before it answered", hint="see daemon.log in the lab's directory")
    answer: Answer = json.loads(line)
    if "error" in answer:
        raise Rejected(f"the lab daemon refused: {answer['error']}")
    return answer
