"""How a route gets at the services of the application it belongs to."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from levier.services.registry import Services


def _services(request: Request) -> Services:
    services = request.app.state.services
    assert isinstance(services, Services)  # noqa: S101 - set by create_app
    return services


ServicesOf = Annotated[Services, Depends(_services)]
