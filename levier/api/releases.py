"""Releases and their bundles."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from levier.api.access import ServicesOf
from levier.domain.site_types import ImageName

router = APIRouter(prefix="/releases", tags=["releases"])


class BundleRequest(BaseModel):
    """Which bundle of a release is wanted."""

    model_config = ConfigDict(extra="forbid")
    image: ImageName


@router.get("")
def releases(services: ServicesOf) -> list[dict[str, Any]]:
    """All releases, oldest first, with their bundles."""
    return services.releases.all()


@router.get("/diff")
def diff(a: str, b: str, services: ServicesOf) -> dict[str, Any]:
    """What changes from release `a` to release `b`, by package."""
    return services.releases.diff(a, b)


@router.get("/{name}")
def show(name: str, services: ServicesOf) -> dict[str, Any]:
    """One release in full; a series alone stands for its newest patch level."""
    return services.releases.show(name)


@router.post("/{name}/bundles", status_code=202)
def build(name: str, request: BundleRequest, services: ServicesOf) -> dict[str, Any]:
    """The bundle is being built, or is there already. Safe to repeat."""
    return services.releases.start_build(name, request.image)


@router.get("/{name}/bundles/{image}/build")
def build_progress(name: str, image: str, services: ServicesOf, since: int = 0) -> dict[str, Any]:
    """How the build goes; `lines` from number `since` on."""
    return services.releases.progress(name, image, since=since)


@router.delete("/{name}/bundles")
def remove(name: str, services: ServicesOf, image: str | None = None) -> list[dict[str, Any]]:
    """No bundle of the release is kept, or none for `image`; the removed ones."""
    return services.releases.remove(name, image=image)
