"""A client for QEMU's machine protocol (QMP) over one socket."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any

from levier.domain.errors import OutcomeUnknown, Rejected

_LINE_LIMIT = 1 << 20
_ANSWER_S = 20.0


class Qmp:
    """One connection. Events go to the callback given to `connect`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._last_id = 0
        self._greeted = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None

    @classmethod
    async def connect(cls, sock: socket.socket, on_event: Callable[[str, dict[str, Any]], None]) -> Qmp:
        """The connection takes commands. Raises OutcomeUnknown when QEMU does not greet in time."""
        reader, writer = await asyncio.open_connection(sock=sock, limit=_LINE_LIMIT)
        qmp = cls(reader, writer)
        qmp._pump = asyncio.create_task(qmp._read(on_event))
        greeted = asyncio.create_task(qmp._greeted.wait())
        try:
            await asyncio.wait({greeted, qmp._pump}, timeout=_ANSWER_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            greeted.cancel()
        if not qmp._greeted.is_set():
            raise OutcomeUnknown("QEMU did not open its machine protocol", hint="see the node's qemu.log")
        await qmp.execute("qmp_capabilities")
        return qmp

    async def execute(self, command: str, **arguments: Any) -> Any:
        """The command's return value. Raises Rejected for a QMP error, OutcomeUnknown when the connection ends."""
        if self._pump is None or self._pump.done():
            raise OutcomeUnknown(f"QEMU is gone: {command} was not sent")
        self._last_id += 1
        number = self._last_id
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        request = {"execute": command, "arguments": arguments, "id": number}
        try:
            self._writer.write(json.dumps(request).encode() + b"\n")
            return await asyncio.wait_for(answer, _ANSWER_S)
        except (TimeoutError, ConnectionError) as error:
            raise OutcomeUnknown(f"QEMU did not answer {command}") from error
        finally:
            self._answers.pop(number, None)

    async def close(self) -> None:
        """The connection is closed. Safe to repeat."""
        if self._pump:
            self._pump.cancel()
        self._writer.close()

    async def _read(self, on_event: Callable[[str, dict[str, Any]], None]) -> None:
        try:
            while line := await self._reader.readline():
                self._take(json.loads(line), on_event)
        except (ConnectionError, ValueError):
            return  # QEMU died: whoever waits learns it below
        finally:
            for waiting in self._answers.values():
                if not waiting.done():
                    waiting.set_exception(OutcomeUnknown("QEMU ended before it answered"))

    def _take(self, message: dict[str, Any], on_event: Callable[[str, dict[str, Any]], None]) -> None:
        if "QMP" in message:
            self._greeted.set()
        elif "event" in message:
            on_event(message["event"], message.get("data", {}))
        elif (waiting := self._answers.get(message.get("id", 0))) and not waiting.done():
            if "error" in message:
                waiting.set_exception(Rejected(f"QEMU refused: {message['error'].get('desc', '')}"))
            else:
                waiting.set_result(message.get("return"))
