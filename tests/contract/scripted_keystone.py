"""Keystone over HTTP as far as a login, projects and a catalogue go, with answers as a test wants them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from drivers.openstack.connection import CloudLogin

TOKENS, PROJECTS = "/v3/auth/tokens", "/v3/projects"
SERVICES, ENDPOINTS = "/v3/services", "/v3/endpoints"
CREDENTIALS = "/v3/users/u/application_credentials"


class Keystone(ThreadingHTTPServer):
    """`answers`: path → the status it answers with instead; what a token's catalogue lists is `catalogue`.

    A new application credential is refused with each of `refusals` once.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.answers: dict[str, int] = {}
        self.refusals: list[str] = []
        self.catalogue = {"identity": f"{self.url}/v3"}
        self.stored: dict[str, dict[str, dict[str, Any]]] = {SERVICES: {}, ENDPOINTS: {}}

    @property
    def login(self) -> CloudLogin:
        return CloudLogin(f"{self.url}/v3", "admin", "wishbone", interface="public")

    @property
    def urls(self) -> dict[str, str]:
        """Interface → URL, of the endpoints that were made."""
        return {each["interface"]: each["url"] for each in self.stored[ENDPOINTS].values()}

    def body(self, path: str) -> dict[str, Any]:
        if path == TOKENS:
            own = {"id": "1", "interface": "public", "region_id": "RegionOne"}
            catalog = [
                {"type": kind, "name": kind, "endpoints": [own | {"url": u}]} for kind, u in self.catalogue.items()
            ]
            times = {"issued_at": "2026-01-01T00:00:00Z", "expires_at": "2099-01-01T00:00:00Z"}
            return {"token": {"methods": ["password"], "user": {"id": "u"}, "catalog": catalog, **times}}
        if path == PROJECTS:
            return {"projects": [{"id": "p", "name": "admin"}]}
        if path == CREDENTIALS:
            return {"application_credentials": []}
        if path in self.stored:
            return {path.rpartition("/")[2]: list(self.stored[path].values())}
        return {"version": {"id": "v3.14", "status": "stable", "links": [{"rel": "self", "href": f"{self.url}/v3/"}]}}

    def change(self, method: str, path: str, sent: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """A service or an endpoint is made, changed or removed."""
        where, _, identity = (path, "", "") if method == "POST" else path.rpartition("/")
        kind, stored = where.rpartition("/")[2].removesuffix("s"), self.stored[where]
        if method == "DELETE":
            del stored[identity]
            return 204, {}
        identity = identity or f"{kind}{len(stored) + 1}"
        stored[identity] = {"id": identity, **stored.get(identity, {}), **sent[kind]}
        return 201 if method == "POST" else 200, {kind: stored[identity]}


@contextmanager
def serving() -> Iterator[Keystone]:
    """One that answers, until the end."""
    server = Keystone()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Keystone

    def do_GET(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.partition("?")[0]
        if self.command != "GET" and path.startswith((SERVICES, ENDPOINTS)):
            self._answer(*self.server.change(self.command, path, json.loads(sent or b"{}")))
            return
        if self.command == "POST" and path == CREDENTIALS:
            self._new_credential(json.loads(sent))
            return
        usual = {TOKENS: 201, PROJECTS: 200, SERVICES: 200, ENDPOINTS: 200, CREDENTIALS: 200, "/v3": 200, "/v3/": 200}
        status = self.server.answers.get(path, usual.get(path, 404))
        self._answer(status, self.server.body(path) if status < 300 else {"error": {"message": "no"}})

    do_POST = do_PATCH = do_DELETE = do_GET

    def _new_credential(self, sent: dict[str, Any]) -> None:
        if self.server.refusals:
            self._answer(400, {"error": {"message": self.server.refusals.pop(0)}})
            return
        self._answer(201, {"application_credential": {"id": "c", "secret": "s", **sent["application_credential"]}})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode() if status != 204 else b""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Subject-Token", "t")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""
