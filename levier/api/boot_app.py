"""The boot service's HTTP application: docs/agent-protocol.md, and the bundles of releases for hosts; nothing else.

It listens on the provisioning network, where anything may be attached: bodies are bounded in size and time, no answer
tells more than the protocol asks for, and no secret is ever logged.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import FileResponse, PlainTextResponse
from starlette.concurrency import run_in_threadpool

from levier.api.boot_access_log import AccessLog
from levier.api.instruction_watch import InstructionWatch
from levier.domain.agentwire import (
    MAX_INVENTORY_BYTES,
    MAX_REPORT_BYTES,
    render_chain,
    render_instruction,
    render_pairs,
)
from levier.domain.errors import LevierError
from levier.domain.netboot import AgentAction
from levier.domain.retry import treatment_of
from levier.services.boot_agents import BootServices, DeployFiles

_BODY_TIMEOUT_S = 15.0
_CUT_OFF_BYTES = 8 * 1024 * 1024
_NO_STORE = {"Cache-Control": "no-store"}
# A client that still sends must be cut off, or it keeps the connection and the server busy for ever.
_CUT_OFF = {"Connection": "close"}
_SESSION_ENDED = "the session is unknown or ended"

router = APIRouter()


class _LargeFile(FileResponse):
    """A file in large pieces: with Starlette's 64 KiB the thread hop per piece costs more than the reading."""

    chunk_size = 1024 * 1024


class _Refused(Exception):
    """Ends a request with a status and a reason, in the protocol's form."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def create_boot_app(services: BootServices) -> FastAPI:
    """An ASGI application that speaks the agent protocol, one per process, ready for uvicorn."""
    watch = InstructionWatch(services.agents.versions, period_s=services.watch_s)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with watch.running():
            yield

    app = FastAPI(title="Levier boot service", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.services = services
    app.state.watch = watch
    app.include_router(router)
    app.add_exception_handler(_Refused, _answer_refused)
    app.add_exception_handler(LevierError, _answer_levier_error)
    app.add_middleware(AccessLog)
    return app


async def _answer_refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, _Refused)  # noqa: S101 - registered for this class only
    answer = _text([("error", error.reason)], status=error.status)
    if error.status in (408, 413):
        answer.headers.update(_CUT_OFF)
    return answer


async def _answer_levier_error(_request: Request, error: Exception) -> Response:
    """An agent's bad input is 400 (the protocol's word for it); everything else by the one table."""
    status = treatment_of(error).http_status
    return _text([("error", str(error))], status=400 if status == 422 else status)


def _text(pairs: list[tuple[str, str]], *, status: int = 200) -> Response:
    return PlainTextResponse(render_pairs(pairs), status_code=status, headers=_NO_STORE)


def _services(request: Request) -> BootServices:
    services: BootServices = request.app.state.services
    return services


def _boot_url(request: Request) -> str:
    """BOOT as this machine reaches it: the socket's own address, which a client cannot choose (unlike Host)."""
    configured = _services(request).boot_url
    if configured:
        return configured.rstrip("/")
    host, port = request.scope["server"]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _bearer(request: Request) -> str:
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise _Refused(403, "the Authorization header with a bearer secret is missing")
    return secret.strip()


Services = Annotated[BootServices, Depends(_services)]
BootUrl = Annotated[str, Depends(_boot_url)]
Secret = Annotated[str, Depends(_bearer)]


async def _body(request: Request, limit: int) -> bytes:
    """The body, refused beyond `limit` bytes whatever its header says, and when it trickles in too slowly.

    What is too long is read on for a while and thrown away: a client that is cut off while it sends does not see why.
    """
    content, received = bytearray(), 0
    try:
        async with asyncio.timeout(_BODY_TIMEOUT_S):
            async for piece in request.stream():
                received += len(piece)
                if received <= limit:
                    content += piece
                elif received > _CUT_OFF_BYTES:
                    break
    except TimeoutError:
        raise _Refused(408, f"the body took longer than {_BODY_TIMEOUT_S:.0f} s") from None
    if received > limit:
        raise _Refused(413, f"the body is longer than {limit} bytes")
    return bytes(content)


@router.get("/boot.ipxe")
async def chain(boot_url: BootUrl) -> Response:
    """The script every iPXE starts with."""
    return PlainTextResponse(render_chain(boot_url=boot_url))


@router.get("/ipxe/{mac}")
async def script(mac: str, services: Services, boot_url: BootUrl) -> Response:
    """The machine's own script, with a fresh one-time token."""
    text = await run_in_threadpool(services.agents.script, mac, boot_url=boot_url)
    if text is None:
        raise _Refused(404, "no boot entry for this machine")
    return PlainTextResponse(text, headers=_NO_STORE)


@router.get("/boot/{entry}/kernel")
async def kernel(entry: str, services: Services) -> Response:
    """The deploy kernel, while the entry stands."""
    return await _entry_file(services, entry, lambda files: files.kernel)


@router.get("/boot/{entry}/ramdisk")
async def ramdisk(entry: str, services: Services) -> Response:
    """The deploy ramdisk, while the entry stands."""
    return await _entry_file(services, entry, lambda files: files.ramdisk)


async def _entry_file(services: BootServices, entry: str, which: Callable[[DeployFiles], Path]) -> Response:
    if not await run_in_threadpool(services.agents.has_entry, entry):
        raise _Refused(404, "no such boot entry")
    files = await run_in_threadpool(services.deploy_files)
    if files is None:
        raise _Refused(503, "there is no deploy ramdisk on the boot service: build or import it")
    path = which(files)
    return await _file(path, missing=f"{path.name} is missing on the boot service: build or import the deploy ramdisk")


async def _file(path: Path, *, missing: str) -> Response:
    try:
        status = await run_in_threadpool(path.stat)
    except FileNotFoundError:
        raise _Refused(503, missing) from None
    return _LargeFile(path, media_type="application/octet-stream", stat_result=status)


@router.post("/agent/claim")
async def claim(request: Request, services: Services, token: Secret) -> Response:
    """A session for the one-time token."""
    body = await _body(request, MAX_INVENTORY_BYTES)
    answer = await run_in_threadpool(services.agents.claim, token, body=body)
    if answer.refusal:
        raise _Refused(403, answer.refusal)
    return _text([("session", answer.session)])


@router.post("/agent/next")
async def next_instruction(request: Request, services: Services, boot_url: BootUrl, session: Secret) -> Response:
    """What the agent is to do; held while that is to wait, and answered as soon as it changes."""
    await _body(request, 1024)
    watch: InstructionWatch = request.app.state.watch
    deadline = asyncio.get_running_loop().time() + services.hold_s
    while True:
        state = await run_in_threadpool(services.agents.ask, session)
        if state is None:
            raise _Refused(403, _SESSION_ENDED)
        instruction = state.instruction
        idle = instruction.action is AgentAction.WAIT or not instruction.is_handed_out
        left_s = deadline - asyncio.get_running_loop().time()
        if not idle or left_s <= 0 or await request.is_disconnected():
            text = render_instruction(instruction, boot_url=boot_url)
            return PlainTextResponse(text, headers=_NO_STORE)
        await watch.changed(state.entry_id, known=instruction.version, timeout_s=left_s)


@router.post("/agent/report")
async def report(request: Request, services: Services, session: Secret) -> Response:
    """The report is kept."""
    body = await _body(request, MAX_REPORT_BYTES)
    if not await run_in_threadpool(services.agents.report, session, body=body):
        raise _Refused(403, _SESSION_ENDED)
    return _text([("ok", "1")])


@router.get("/images/{sha256}")
async def image(sha256: str, services: Services, session: Secret) -> Response:
    """The image, for the one session that was told to write it."""
    if not await run_in_threadpool(services.agents.may_read_image, session, sha256):
        raise _Refused(403, "this session was not told to write this image")
    path = await run_in_threadpool(services.image_path, sha256)
    if path is None:
        raise _Refused(503, "the image is not in the boot service's cache: build or import it again")
    return await _file(path, missing="the image vanished from the boot service's cache: build or import it again")


@router.get("/bundles/{sha256}")
@router.head("/bundles/{sha256}")
async def bundle(sha256: str, services: Services) -> Response:
    """The bundle with that digest, whole or in ranges. For anybody: it holds published software and no secret."""
    path = await run_in_threadpool(services.bundle_path, sha256)
    if path is None:
        raise _Refused(404, "there is no bundle with this digest: build the release")
    try:
        status = await run_in_threadpool(path.stat)
    except FileNotFoundError:
        raise _Refused(404, "the bundle vanished: build the release") from None
    # The digest is the content's name, so what was fetched of it in part stays good for ever.
    named = {"ETag": f'"{sha256}"', "Cache-Control": "public, immutable, max-age=31536000"}
    return _LargeFile(path, media_type="application/zstd", stat_result=status, headers=named)


@router.get("/agent/seed")
async def seed(services: Services, session: Secret) -> Response:
    """The seed, for the one session that was told to write it."""
    content = await run_in_threadpool(services.agents.seed, session)
    if content is None:
        raise _Refused(403, "there is no seed for this session")
    return Response(content, media_type="application/x-tar", headers=_NO_STORE)
