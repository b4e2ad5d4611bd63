"""One line per request of the boot service: method, path, status, bytes, time, client. Never a header or a body."""

from __future__ import annotations

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = logging.getLogger("levier.boot.access")


class AccessLog:
    """Plain ASGI, so that file transfers pass through untouched."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The request is answered by the inner application, and one line about it is logged."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        status, size = 500, 0

        async def counted(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            client = (scope.get("client") or ("-", 0))[0]
            # repr: a path may hold anything, line breaks included.
            line = "%s %r %d %d bytes %.3f s from %s"
            path = scope["path"][:200]
            _log.info(line, scope["method"], path, status, size, time.monotonic() - began, client)
