"""A boot service for one agent: a real HTTP server that speaks docs/agent-protocol.md and keeps what it was told."""

from __future__ import annotations

import secrets
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

GUEST_HOST = "10.0.2.2"
"""How a guest with QEMU's user networking calls this machine's loopback."""


@dataclass(frozen=True)
class Order:
    """One answer to `next`; `order["image_file"]` style paths are kept apart from what goes over the wire."""

    values: dict[str, str]


@dataclass
class AgentService:
    """The state of the service. All waiting is on `changed`."""

    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    session: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    changed: threading.Condition = field(default_factory=threading.Condition)
    inventory: dict[str, str] = field(default_factory=dict)
    reports: list[dict[str, str]] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    images: dict[str, Path] = field(default_factory=dict)
    seed: bytes = b""
    ended: bool = False
    stopped: bool = False
    refused: list[str] = field(default_factory=list)
    times: dict[str, float] = field(default_factory=dict)
    cut_after_bytes: int = 0
    """When set, an image's connection is closed after so many bytes."""
    silent_after_bytes: int = 0
    """When set, an image's connection stays open after so many bytes, and nothing more comes."""
    _server: ThreadingHTTPServer | None = None

    def __enter__(self) -> AgentService:
        service = self

        class Handler(_Handler):
            state = service

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        with self.changed:
            self.ended = self.stopped = True
            self.changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    @property
    def guest_url(self) -> str:
        """Base URL as the guest sees it."""
        assert self._server is not None
        return f"http://{GUEST_HOST}:{self._server.server_address[1]}"

    def order(self, action: str, **values: str | int) -> None:
        """The agent's next unanswered question is answered with this."""
        with self.changed:
            self.orders.append(Order({"action": action, **{key: str(value) for key, value in values.items()}}))
            self.changed.notify_all()

    def order_write(self, disk: str, image: Path, *, sha256: str, size_bytes: int, raw_size_bytes: int) -> int:
        """The agent is told to write `image` as if it were what the keys say. Returns where its reports will begin."""
        self.images[sha256] = image
        begin = len(self.reports)
        self.order(
            "write",
            disk=disk,
            image_url=f"{self.guest_url}/images/{sha256}",
            image_sha256=sha256,
            image_size_bytes=size_bytes,
            raw_size_bytes=raw_size_bytes,
            seed_url=f"{self.guest_url}/agent/seed",
        )
        return begin

    def end_session(self) -> None:
        """From now on every request is answered 403."""
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def wait_for(self, condition: Callable[[], bool], *, timeout_s: float, what: str) -> None:
        """`condition` holds. Fails with what did happen."""
        with self.changed:
            if not self.changed.wait_for(condition, timeout=timeout_s):
                raise AssertionError(
                    f"no {what} within {timeout_s} s; reports: {self.reports[-5:]}, refused: {self.refused}"
                )

    def outcome(self, begin: int, *, timeout_s: float = 180) -> list[dict[str, str]]:
        """All reports from `begin` on, up to the end of that write: a failure, or the seed in place."""

        def finished() -> bool:
            return any(
                report["state"] == "failed" or (report["stage"], report["state"]) == ("seed", "done")
                for report in self.reports[begin:]
            )

        self.wait_for(finished, timeout_s=timeout_s, what="end of the write")
        return self.reports[begin:]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: AgentService

    def log_message(self, format: str, *args: object) -> None:
        return

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        values = dict(line.split("=", 1) for line in body.splitlines() if "=" in line)
        if self.path == "/agent/claim":
            self._claim(values)
        elif not self._authorised():
            self._answer(403, "error=the session has ended\n")
        elif self.path == "/agent/next":
            self._next()
        elif self.path == "/agent/report":
            with self.state.changed:
                self.state.reports.append(values)
                self.state.times[f"{values['stage']}/{values['state']}"] = time.monotonic()
                self.state.changed.notify_all()
            self._answer(200, "ok=1\n")
        else:
            self._answer(404, "error=no such thing\n")

    def do_GET(self) -> None:
        if not self._authorised():
            self._answer(403, "error=the session has ended\n")
        elif self.path == "/agent/seed":
            self._bytes(self.state.seed)
        elif self.path.startswith("/images/"):
            self._image(self.state.images[self.path.removeprefix("/images/")])
        else:
            self._answer(404, "error=no such thing\n")

    def _claim(self, values: dict[str, str]) -> None:
        state = self.state
        with state.changed:
            if self.headers["Authorization"] != f"Bearer {state.token}":
                state.refused.append("claim")
                state.changed.notify_all()
                self._answer(403, "error=token is unknown\n")
                return
            state.token = ""  # it works once
            state.inventory = values
            state.times["claim"] = time.monotonic()
            state.changed.notify_all()
        self._answer(200, f"session={state.session}\n")

    def _next(self) -> None:
        state = self.state
        with state.changed:
            state.changed.wait_for(lambda: bool(state.orders) or state.ended, timeout=10)
            if state.ended:
                state.refused.append("next")
                state.changed.notify_all()
                self._answer(403, "error=the session has ended\n")
                return
            order = state.orders.pop(0) if state.orders else Order({"action": "wait"})
        self._answer(200, "".join(f"{key}={value}\n" for key, value in order.values.items()))

    def _authorised(self) -> bool:
        return not self.state.ended and self.headers["Authorization"] == f"Bearer {self.state.session}"

    def _answer(self, status: int, body: str) -> None:
        self._bytes(body.encode(), status=status)

    def _bytes(self, body: bytes, *, status: int = 200) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the machine was switched off meanwhile

    def _keep_silent(self) -> None:
        self.close_connection = True
        # Readable means closed here: a client has nothing to say while it waits for a body.
        while not select.select([self.connection], [], [], 0.2)[0]:
            if self.state.stopped:
                return

    def _image(self, path: Path) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(path.stat().st_size))
        self.end_headers()
        sent = 0
        with path.open("rb") as stream:
            while chunk := stream.read(1 << 16):
                if self.state.cut_after_bytes and sent >= self.state.cut_after_bytes:
                    self.close_connection = True
                    return
                if self.state.silent_after_bytes and sent >= self.state.silent_after_bytes:
                    self._keep_silent()
                    return
                self.wfile.write(chunk)
                sent += len(chunk)
