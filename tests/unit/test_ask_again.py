"""Requests are repeated while the answer is 503, and only then."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

import flows.server
from flows.server import AskAgain


class Flaky:
    """Answers 503 to the first `failures` requests, by an exception handler as Prefect does, then echoes the body."""

    def __init__(self, failures: int, *, status: int = 503) -> None:
        self.failures = failures
        self.status = status
        self.seen: list[bytes] = []
        self.app = Starlette(
            routes=[
                Route("/echo", self.echo, methods=["POST", "GET"]),
                Route("/api/ready", self.echo),
                Route("/stream", self.stream),
            ],
            exception_handlers={Exception: self.handler},
        )

    async def echo(self, request: Request) -> Response:
        self.seen.append(await request.body())
        if len(self.seen) <= self.failures:
            raise RuntimeError("database is locked")
        return JSONResponse({"echo": self.seen[-1].decode()}, status_code=201)

    async def stream(self, _request: Request) -> Response:
        return StreamingResponse(iter([b"a" * 70_000, b"b" * 70_000]))

    async def handler(self, _request: Request, _error: Exception) -> Response:
        return JSONResponse({"exception_message": "Service Unavailable"}, status_code=self.status)


def ask(flaky: Flaky, method: str, path: str, content: bytes = b"") -> httpx.Response:
    async def call() -> httpx.Response:
        app = AskAgain(flaky.app, attempts=4, first_delay_s=0.001)
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
            return await client.request(method, path, content=content)

    return asyncio.run(call())


@pytest.mark.parametrize("failures", [0, 1, 3])
def test_a_request_is_repeated_with_its_body_until_it_is_answered(failures: int) -> None:
    flaky = Flaky(failures)
    response = ask(flaky, "POST", "/echo", b"hello")
    assert (response.status_code, response.json()) == (201, {"echo": "hello"})
    assert flaky.seen == [b"hello"] * (failures + 1)


def test_in_the_end_the_refusal_itself_is_the_answer() -> None:
    flaky = Flaky(99)
    response = ask(flaky, "POST", "/echo", b"x")
    assert response.status_code == 503
    assert response.json() == {"exception_message": "Service Unavailable"}
    assert len(flaky.seen) == 4


def test_other_errors_are_not_repeated() -> None:
    flaky = Flaky(1, status=500)
    assert ask(flaky, "POST", "/echo", b"x").status_code == 500
    assert len(flaky.seen) == 1


def test_the_question_whether_it_is_ready_is_answered_as_it_is() -> None:
    flaky = Flaky(1)
    assert ask(flaky, "GET", "/api/ready").status_code == 503
    assert len(flaky.seen) == 1


def test_a_large_body_arrives_whole_and_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows.server, "LARGEST_BODY", 1000)
    flaky = Flaky(0)
    assert ask(flaky, "POST", "/echo", b"z" * 300_000).status_code == 201
    assert flaky.seen == [b"z" * 300_000]


def test_a_streamed_answer_arrives_whole() -> None:
    assert ask(Flaky(0), "GET", "/stream").content == b"a" * 70_000 + b"b" * 70_000
