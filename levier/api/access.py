"""How a route gets at the services of the application it belongs to."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Request

from levier.domain.errors import InvalidRequest
from levier.services.registry import Services


def _services(request: Request) -> Services:
    services = request.app.state.services
    assert isinstance(services, Services)  # noqa: S101 - set by create_app
    return services


UNNAMED = "a holder of the API token"
LONGEST_NAME = 128


def _caller(x_levier_user: Annotated[str | None, Header()] = None) -> str:
    """Who calls, in their own words: the token shows that they may, not who they are (docs/decisions/0140)."""
    name = (x_levier_user or "").strip()
    if not name.isprintable() or len(name) > LONGEST_NAME:
        raise InvalidRequest(
            "X-Levier-User is not a name", hint=f"at most {LONGEST_NAME} printable characters, such as ann@desk7"
        )
    return name or UNNAMED


Caller = Annotated[str, Depends(_caller)]

ServicesOf = Annotated[Services, Depends(_services)]
