"""Deploy ramdisks."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool

from levier.api.access import ServicesOf
from levier.api.images import receive

router = APIRouter(prefix="/ramdisks", tags=["images"])


@router.get("")
def ramdisks(services: ServicesOf) -> list[dict[str, Any]]:
    """All deploy ramdisks, newest first: the first one is served."""
    return services.images.ramdisks()


@router.put("")
async def take_in(request: Request, services: ServicesOf) -> dict[str, Any]:
    """The body, a bundle of `levier ramdisk export`, is checked and served from now on. Safe to repeat."""
    with services.images.incoming() as file:
        await receive(request, file)
        return await run_in_threadpool(services.images.take_in_ramdisk, file)


@router.get("/bundle")
def bundle(services: ServicesOf) -> FileResponse:
    """The ramdisk that is served, as a bundle for another installation."""
    with ExitStack() as files:
        file = files.enter_context(services.images.incoming())
        services.images.write_bundle(file)
        # Sent after this function has returned: the file stays until then.
        return FileResponse(file, media_type="application/x-tar", background=BackgroundTask(files.pop_all().close))
