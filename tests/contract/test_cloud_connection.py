"""What a cloud's API answers that is not well, over HTTP: each answer is an error of Levier's own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any, cast

import pytest

from drivers.openstack.connection import CloudLogin, cloud_connection, service_failed
from levier.domain.errors import AuthFailed, Busy, Conflict, LevierError, NotFound, Rejected
from levier.saga.step import Checkpoint
from levier.services.context import NodeContext, NodeStep
from levier.services.steps import smoke

TOKENS, PROJECTS = "/v3/auth/tokens", "/v3/projects"


class Keystone(ThreadingHTTPServer):
    """Keystone as far as a login and a list of projects go; `answers`: path → the status it answers with instead."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.answers: dict[str, int] = {}
        self.services = ["identity"]

    @property
    def login(self) -> CloudLogin:
        return CloudLogin(f"{self.url}/v3", "admin", "wishbone", interface="public")

    def body(self, path: str) -> dict[str, Any]:
        if path == TOKENS:
            endpoints = [{"id": "1", "interface": "public", "region_id": "RegionOne", "url": f"{self.url}/v3"}]
            catalog = [{"type": kind, "name": kind, "endpoints": endpoints} for kind in self.services]
            times = {"issued_at": "2026-01-01T00:00:00Z", "expires_at": "2099-01-01T00:00:00Z"}
            return {"token": {"methods": ["password"], "user": {"id": "u"}, "catalog": catalog, **times}}
        if path == PROJECTS:
            return {"projects": [{"id": "p", "name": "admin"}]}
        return {"version": {"id": "v3.14", "status": "stable", "links": [{"rel": "self", "href": f"{self.url}/v3/"}]}}


class _Handler(BaseHTTPRequestHandler):
    server: Keystone

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.partition("?")[0]
        usual = {TOKENS: 201, PROJECTS: 200, "/v3": 200, "/v3/": 200}
        status = self.server.answers.get(path, usual.get(path, 404))
        content = json.dumps(self.server.body(path) if status < 300 else {"error": {"message": "no"}}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Subject-Token", "t")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def keystone() -> Iterator[Keystone]:
    server = Keystone()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def projects(keystone: Keystone) -> list[str]:
    with cloud_connection(keystone.login, lambda: None) as cloud:
        return [each.name for each in cloud.identity.projects()]  # type: ignore[attr-defined]


def test_a_cloud_that_is_well_answers(keystone: Keystone) -> None:
    assert projects(keystone) == ["admin"]


@pytest.mark.parametrize(
    ("path", "status", "kind"),
    [
        (TOKENS, 500, Rejected),
        (TOKENS, 503, Busy),
        (TOKENS, 502, Busy),
        (TOKENS, 403, Rejected),
        (TOKENS, 401, AuthFailed),
        (PROJECTS, 500, Rejected),
        (PROJECTS, 503, Busy),
        (PROJECTS, 404, NotFound),
        (PROJECTS, 409, Conflict),
        (PROJECTS, 400, Rejected),
    ],
)
def test_a_status_is_an_error_of_levier_s_own(
    keystone: Keystone, path: str, status: int, kind: type[LevierError]
) -> None:
    keystone.answers[path] = status
    with pytest.raises(LevierError) as caught:
        projects(keystone)
    assert type(caught.value) is kind
    assert service_failed(caught.value) == (status >= 500)


def test_a_service_that_is_not_in_the_catalogue_is_told_by_either_library(keystone: Keystone) -> None:
    keystone.services = ["image"]
    with pytest.raises(Rejected, match="identity"):
        projects(keystone)
    where = {"service_type": "compute", "interface": "public"}
    with pytest.raises(Rejected, match="compute"), cloud_connection(keystone.login, lambda: None) as cloud:
        cloud.session.get("/servers", endpoint_filter=where)


def context(keystone: Keystone) -> NodeContext:
    """One host in an operation whose cloud is this one."""
    view = SimpleNamespace(runs=lambda component: False)
    cloud = SimpleNamespace(login=lambda site: keystone.login, view=lambda site: view)
    own = {"guard": lambda: None, "own_host": lambda: None}
    return cast(NodeContext, SimpleNamespace(operation="install-1", name="a1-01", site=None, cloud=cloud, **own))


@pytest.mark.parametrize("step", [smoke.prepare, smoke.server], ids=lambda step: step.name)
@pytest.mark.parametrize("path", [TOKENS, PROJECTS])
def test_the_undo_of_a_smoke_test_tells_what_a_failing_cloud_keeps(
    keystone: Keystone, step: NodeStep, path: str
) -> None:
    assert callable(step.undo)
    keystone.answers[path] = 500
    (left,) = step.undo(context(keystone), Checkpoint(before={}, outputs=None, attempts=1))["left"]
    assert "500" in left
    keystone.answers[path] = 400
    with pytest.raises(Rejected):
        step.undo(context(keystone), Checkpoint(before={}, outputs=None, attempts=1))
