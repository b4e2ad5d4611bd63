"""Site file and configuration revisions."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Query

from levier.api.access import Caller, ServicesOf

router = APIRouter(prefix="/site", tags=["configuration"])


@router.post("/validate")
def validate(text: Annotated[str, Body(media_type="text/plain")], services: ServicesOf) -> dict[str, Any]:
    """The site file is correct; nothing is stored. 422 with every problem otherwise."""
    return services.sites.validate(text, "site.yaml")


@router.post("/revisions")
def apply(
    text: Annotated[str, Body(media_type="text/plain")],
    services: ServicesOf,
    who: Caller,
    filename: Annotated[str, Query()] = "site.yaml",
) -> dict[str, Any]:
    """The site file is the latest configuration revision. Safe to repeat: equal content makes no second one."""
    return services.sites.apply(text, filename, who=who)


@router.get("/revisions")
def revisions(services: ServicesOf) -> list[dict[str, Any]]:
    """All revisions, oldest first."""
    return services.sites.revisions()


@router.get("/revisions/{number}")
def revision(number: int, services: ServicesOf) -> dict[str, Any]:
    """One revision with its content."""
    return services.sites.revision(number)


@router.get("/diff")
def diff(services: ServicesOf, a: Annotated[int, Query()], b: Annotated[int, Query()]) -> list[dict[str, Any]]:
    """What changed from revision `a` to revision `b`."""
    return services.sites.diff(a, b)
