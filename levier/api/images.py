"""Operating-system images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool

from levier.api.access import ServicesOf
from levier.domain.site_types import ImageName

router = APIRouter(prefix="/images", tags=["images"])


class ImageBuildRequest(BaseModel):
    """Which image is wanted."""

    model_config = ConfigDict(extra="forbid")
    name: str
    kernel: Literal["cloud", "generic"] = "generic"
    with_packages: bool = False
    """Everything an installation gives the hosts with this image is in it."""


@router.get("")
def images(services: ServicesOf) -> list[dict[str, Any]]:
    """All built images."""
    return services.images.all()


@router.post("", status_code=202)
def build(request: ImageBuildRequest, services: ServicesOf) -> dict[str, Any]:
    """The image is being built, or is there already. Safe to repeat."""
    return services.images.start_build(request.name, kernel=request.kernel, with_packages=request.with_packages)


@router.get("/builds/{name}")
def build_progress(name: str, services: ServicesOf, since: int = 0) -> dict[str, Any]:
    """How the build of `name` is going; `lines` from number `since` on."""
    return services.images.progress(name, since=since)


@router.put("/{name}/content")
async def take_in(name: ImageName, request: Request, services: ServicesOf, sha256: str = "") -> dict[str, Any]:
    """The body, a raw disk as one zstd stream, is checked and is the newest image `name`. Safe to repeat."""
    with services.images.incoming() as file:
        await receive(request, file)
        return await run_in_threadpool(services.images.take_in, name, file, sha256=sha256)


async def receive(request: Request, file: Path) -> None:
    """`file` holds the body."""
    with file.open("wb") as out:
        async for piece in request.stream():
            out.write(piece)
