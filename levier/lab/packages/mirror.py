"""The lab's package mirror: a process outside of the lab's network that listens inside it.

A listening socket stays in the namespace it was made in (network_namespaces(7)): whoever starts this process makes it
in the lab's namespace and hands it down, and connections to the archives are made from where the process itself is.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import socket
import sys
from collections.abc import Coroutine
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from levier.domain.errors import LevierError
from levier.lab.packages.cache import PackageCache, cache_dir, is_archive_path, is_lasting
from levier.lab.packages.download import Download, client_for
from levier.lab.packages.upstream import Upstreams, discover_upstreams

_TYPE = "application/octet-stream"
_TRIM_EVERY_BYTES = 128 << 20


class Mirror:
    """Answers for the archives of `upstreams`, out of `cache` as far as it holds what is asked for."""

    def __init__(self, upstreams: Upstreams, cache: PackageCache) -> None:
        self._upstreams = upstreams
        self._cache = cache
        self._clients: dict[str, httpx.AsyncClient] = {}
        self._running: dict[Path, tuple[Download, asyncio.Task[None]]] = {}
        self._untrimmed_bytes = 0

    def app(self) -> Starlette:
        """The HTTP application: `/ARCHIVE/PATH`."""
        return Starlette(routes=[Route("/{archive}/{path:path}", self.answer, methods=["GET"])])

    async def answer(self, request: Request) -> Response:
        """The file: from the cache if it cannot have changed, else as the archive has it now.

        What is cached serves when the archive cannot be asked.
        """
        archive, path = request.path_params["archive"], request.path_params["path"]
        if archive not in self._upstreams.archives or not is_archive_path(path):
            return PlainTextResponse("no such file in the archives of this mirror\n", 404)
        url = self._upstreams.archives[archive].url
        place = self._cache.place(url, path)
        if is_lasting(path) and place.is_file():
            return self._cached(place, request)
        download = self._download(archive, place, f"{url}/{path}")
        await download.begun()
        if download.status == 200:
            size = {} if download.size_bytes is None else {"Content-Length": str(download.size_bytes)}
            return StreamingResponse(download.content(), media_type=_TYPE, headers=size)
        if download.status in (304, 502) and place.is_file():
            return self._cached(place, request)
        said = "the archive cannot be reached from this computer" if download.status == 502 else "the archive refuses"
        return PlainTextResponse(f"{said}\n", download.status)

    def _cached(self, place: Path, request: Request) -> Response:
        self._cache.touch(place)
        if "if-modified-since" in request.headers and "range" not in request.headers:
            since = parsedate_to_datetime(request.headers["if-modified-since"]).timestamp()
            if int(place.stat().st_mtime) <= since:
                return Response(status_code=304)
        return FileResponse(place, media_type=_TYPE)

    def _download(self, archive: str, place: Path, url: str) -> Download:
        """The one that is under way, or a new one."""
        if place in self._running:
            return self._running[place][0]
        if archive not in self._clients:
            self._clients[archive] = client_for(self._upstreams.archives[archive])
        known = place.stat().st_mtime if place.is_file() else None
        download = Download(self._cache, place)
        run = download.run(self._clients[archive], url, unless_newer_than=known)
        self._running[place] = (download, asyncio.create_task(self._followed(place, download, run)))
        return download

    async def _followed(self, place: Path, download: Download, run: Coroutine[None, None, None]) -> None:
        try:
            await run
        finally:
            del self._running[place]
        self._untrimmed_bytes += download.size_bytes or 0
        if self._untrimmed_bytes > _TRIM_EVERY_BYTES:
            self._untrimmed_bytes = 0
            await asyncio.to_thread(self._cache.trim)


def main() -> int:
    """Serves until it is ended; 1 when this machine's apt tells no archive."""
    parser = argparse.ArgumentParser(prog="levier.lab.packages.mirror", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="the listening socket")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        mirror = Mirror(discover_upstreams(), PackageCache(cache_dir()))
    except LevierError as error:
        print(f"mirror: {error}", file=sys.stderr)
        return 1
    config = uvicorn.Config(mirror.app(), log_config=None, access_log=False, lifespan="off", timeout_keep_alive=60)
    with socket.socket(fileno=options.fd) as listening:
        uvicorn.Server(config).run(sockets=[listening])
    return 0


if __name__ == "__main__":
    sys.exit(main())
