"""Runs the boot service's application under uvicorn."""

from __future__ import annotations

import uvicorn
from fastapi import FastAPI


def boot_server(app: FastAPI, *, host: str, port: int) -> uvicorn.Server:
    """A server for the boot service, not yet running: call `run()`, and set `should_exit` to end it.

    Its own access log stays off (the application keeps one). On exit held requests are cut after 3 s: agents ask again.
    No proxy headers are believed: they would forge the address scripts refer to.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=3,
        timeout_keep_alive=65,
        backlog=2048,
    )
    return uvicorn.Server(config)
