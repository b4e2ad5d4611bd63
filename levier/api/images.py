"""Operating-system images."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from levier.api.access import ServicesOf

router = APIRouter(prefix="/images", tags=["images"])


class ImageBuildRequest(BaseModel):
    """Which image is wanted."""

    model_config = ConfigDict(extra="forbid")
    name: str
    kernel: Literal["cloud", "generic"] = "generic"


@router.get("")
def images(services: ServicesOf) -> list[dict[str, Any]]:
    """All built images."""
    return services.images.all()


@router.post("", status_code=202)
def build(request: ImageBuildRequest, services: ServicesOf) -> dict[str, Any]:
    """The image is being built, or is there already. Safe to repeat."""
    return services.images.start_build(request.name, kernel=request.kernel)


@router.get("/builds/{name}")
def build_progress(name: str, services: ServicesOf, since: int = 0) -> dict[str, Any]:
    """How the build of `name` is going; `lines` from number `since` on."""
    return services.images.progress(name, since=since)
