"""The Prefect server, asked again by itself where it would tell its callers to ask again.

On SQLite two transactions that meet make Prefect answer 503, the write rolled back: on a busy two-core machine that was
one of four `create_flow_run` calls. Prefect's Python client repeats those; its UI and anybody's curl do not
(docs/decisions/0081).
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn

from levier.collection import collect_seldom

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

ATTEMPTS = 8
FIRST_DELAY_S = 0.02
LARGEST_BODY = 4 * 1024 * 1024
"""A request with a larger body is passed on as it comes, and answered as it is."""
NOT_REPEATED = ("/api/ready", "/api/health")


class AskAgain:
    """An ASGI application that repeats a request to `app` while the answer is 503, up to `attempts` times in all."""

    def __init__(self, app: AsgiApp, *, attempts: int = ATTEMPTS, first_delay_s: float = FIRST_DELAY_S) -> None:
        self._app = app
        self._attempts = attempts
        self._first_delay_s = first_delay_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The request is answered, by 503 only when it stayed so."""
        if scope["type"] != "http" or scope["path"] in NOT_REPEATED:
            return await self._app(scope, receive, send)
        body, whole = await _read_body(receive)
        if not whole:
            return await self._app(scope, _replayed(body, receive, more=True), send)
        for attempt in range(1, self._attempts):
            answer = _UnlessUnavailable(send)
            try:
                await self._app(dict(scope), _replayed(body, receive, more=False), answer)
            except Exception:
                # Starlette answers an unexpected exception first, and raises it again for the server's log.
                if not answer.withheld:
                    raise
            if not answer.withheld:
                return None
            await asyncio.sleep(random.uniform(0.5, 1.5) * self._first_delay_s * 2**attempt)  # noqa: S311 - spreading
        return await self._app(scope, _replayed(body, receive, more=False), send)


class _UnlessUnavailable:
    """Sends an answer on, unless it is 503; then `withheld` is true and nothing was sent."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.withheld = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 503:
            self.withheld = True
        if not self.withheld:
            await self._send(message)


async def _read_body(receive: Receive) -> tuple[bytes, bool]:
    """What came of the body, and whether that is all of it."""
    body = b""
    while len(body) <= LARGEST_BODY:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return body, True
    return body, False


def _replayed(body: bytes, receive: Receive, *, more: bool) -> Receive:
    pending = [{"type": "http.request", "body": body, "more_body": more}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay


def main(argv: list[str] | None = None) -> int:
    """The server ran until it was told to stop. Its settings are Prefect's, from the environment."""
    parser = argparse.ArgumentParser(prog="python -m flows.server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=4200)
    arguments = parser.parse_args(argv)
    collect_seldom()
    from prefect.server.api.server import create_app  # slow to import: not for --help

    # Keep-alive and WebSocket times are those of `prefect server start`.
    uvicorn.run(
        AskAgain(create_app(final=True)),
        host=arguments.host,
        port=arguments.port,
        timeout_keep_alive=5,
        ws_ping_interval=20.0,
        ws_ping_timeout=20.0,
        log_level="warning",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
