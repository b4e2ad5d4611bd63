"""The REST API: nobody without the token, and every listing for programs too."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.integration.e2e.installation import NODES, Installation
from tests.integration.e2e.terminal import Terminal

pytestmark = [pytest.mark.root, pytest.mark.timeout(1800)]


def described(levier: Installation) -> dict[str, Any]:
    """The API's description of itself, which is for those with the token too."""
    document: dict[str, Any] = levier.get("/openapi.json")
    return document


def test_every_route_but_health_asks_for_the_token(levier: Installation) -> None:
    routes = [
        (method.upper(), path)
        for path, methods in described(levier)["paths"].items()
        for method in methods
        if path != "/v1/health"
    ]
    routes.append(("GET", "/v1/openapi.json"))
    assert len(routes) > 15
    base = levier.api_url.removesuffix("/v1")
    with httpx.Client(base_url=base, trust_env=False, timeout=30) as anybody:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {levier.token()}"}):
            for method, path in routes:
                answer = anybody.request(method, path.replace("{", "").replace("}", ""), headers=headers)
                assert answer.status_code == 401, f"{method} {path} with {headers}"
                assert levier.token() not in answer.text
        assert anybody.get("/v1/health").status_code == 200
        assert {anybody.get(path).status_code for path in ("/openapi.json", "/docs", "/redoc")} == {404}


def test_a_wrong_token_on_the_command_line(levier: Installation) -> None:
    stranger = Terminal({**levier.terminal.environment, "LEVIER_TOKEN": "wrong"})
    mark = levier.mark()
    for command in (("node", "list"), ("expand", "a1-01")):
        answer = stranger.run(*command)
        assert answer.status == 1
        assert "a valid API token is needed" in answer.err
        assert "set LEVIER_TOKEN" in answer.err
    assert not mark.page().events


@pytest.mark.parametrize(
    ("command", "columns"),
    [
        ("node list", {"name", "zone", "state", "address", "os", "serial", "revision", "operation"}),
        ("site list", {"revision", "applied", "who", "nodes", "digest"}),
        ("image list", {"name", "size_mib", "sha256"}),
        ("operation list", None),
        ("address list", None),
        ("boot-entry list", None),
        ("secret list", None),
    ],
)
def test_every_listing_is_for_programs_too(levier: Installation, command: str, columns: set[str] | None) -> None:
    rows = levier.terminal.json(*command.split())
    assert isinstance(rows, list)
    if columns is not None:
        assert rows
        assert all(columns <= set(row) for row in rows)


def test_the_lists_hold_what_there_is(levier: Installation) -> None:
    assert tuple(n["name"] for n in levier.terminal.json("node", "list")) == NODES
    assert levier.terminal.json("secret", "list") == ["lab-bmc"], "Levier's own keys are nobody's to see"
    status = levier.terminal.json("status")
    assert status["ready"] is True
    assert {p["name"]: p["state"] for p in status["processes"]}.keys() >= {
        "api",
        "boot",
        "netboot",
        "prefect",
        "runner",
    }


def test_the_lab_tells_the_same_on_the_command_line(levier: Installation) -> None:
    """The other tests read the lab's status and ledger through the same object that this command prints."""
    told = levier.terminal.json("lab", "status", "--name", levier.lab)
    assert {m["name"]: m["power"] for m in told["nodes"]} == dict.fromkeys(NODES, "off")
    events = levier.terminal.json("lab", "events", "--name", levier.lab)
    assert [e["seq"] for e in events] == sorted(e["seq"] for e in events)
    assert levier.mark().seq == events[-1]["seq"]
