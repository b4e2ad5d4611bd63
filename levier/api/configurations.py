"""Components, and the configuration of hosts."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from levier.api.access import ServicesOf

router = APIRouter(tags=["configuration"])


@router.get("/components")
def components(services: ServicesOf) -> list[dict[str, Any]]:
    """Every component there is, with its settings."""
    return services.configurations.components()


@router.get("/components/{name}")
def component(name: str, services: ServicesOf) -> dict[str, Any]:
    """One component with all it says."""
    return services.configurations.component(name)


@router.get("/hosts/{host}/configuration")
def configuration(
    host: str,
    services: ServicesOf,
    component: Annotated[str | None, Query()] = None,
    revision: Annotated[int | None, Query()] = None,
) -> dict[str, Any]:
    """The files of a host, or of one component there, with *** for every secret; `written` of what was put there so.

    With a revision: what was written with it. Without one, or where nothing was: what would be written now.
    """
    return services.configurations.show(host, component, revision=revision)
