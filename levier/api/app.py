"""The REST API: sites, nodes, secrets, images, releases, operations."""

from __future__ import annotations

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse

from levier import __version__
from levier.api import cloud, configurations, images, nodes, operations, ramdisks, releases, sites, stored_secrets
from levier.api.auth import require_token
from levier.domain.errors import LevierError
from levier.domain.retry import treatment_of
from levier.services.registry import Services


def create_app(services: Services, *, token: str) -> FastAPI:
    """An ASGI application over `services`; every route but `/v1/health` asks for the token."""
    # Its own description is behind the token too: FastAPI would publish it to anybody.
    app = FastAPI(title="Levier", version=__version__, openapi_url=None)
    app.state.services = services
    app.add_exception_handler(LevierError, _problem)
    guarded = APIRouter(prefix="/v1", dependencies=[Depends(require_token(token))])
    for module in (sites, configurations, cloud, nodes, stored_secrets, images, ramdisks, releases, operations):
        guarded.include_router(module.router)
    guarded.add_api_route("/openapi.json", app.openapi, methods=["GET"], include_in_schema=False)
    app.include_router(guarded)
    app.add_api_route("/v1/health", _health, methods=["GET"])
    return app


def _health() -> dict[str, str]:
    return {"status": "ok", "version": __version__}


def _problem(_request: Request, error: Exception) -> JSONResponse:
    """The error as JSON with the status of the one table of errors."""
    body: dict[str, object] = {"error": type(error).__name__, "message": str(error)}
    if isinstance(error, LevierError):
        body["hint"] = error.hint
        problems = getattr(error, "problems", None)
        if problems is not None:
            body["problems"] = [each.model_dump(mode="json") for each in problems]
    return JSONResponse(body, status_code=treatment_of(error).http_status)
