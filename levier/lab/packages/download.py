"""One file on its way from the archive into the cache: fetched once, read by all who ask meanwhile."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path

import httpx

from levier.lab.packages.cache import PackageCache
from levier.lab.packages.upstream import Upstream

_log = logging.getLogger(__name__)
_CHUNK_BYTES = 256 * 1024
_TIMEOUT = httpx.Timeout(20.0, pool=None)
_CONNECTIONS = httpx.Limits(max_connections=16)
_SYSTEM_CAS = Path("/etc/ssl/certs/ca-certificates.crt")


def client_for(upstream: Upstream) -> httpx.AsyncClient:
    """A client that reaches the archive as this machine's apt does: its proxy, this computer's CA certificates."""
    cas = upstream.ca_file or (str(_SYSTEM_CAS) if _SYSTEM_CAS.exists() else None)
    context = ssl.create_default_context(cafile=cas)
    if not upstream.verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return httpx.AsyncClient(
        proxy=upstream.proxy,
        trust_env=upstream.ask_environment,
        verify=context,
        follow_redirects=True,
        timeout=_TIMEOUT,
        limits=_CONNECTIONS,
        # Files are stored and passed on as they are.
        headers={"Accept-Encoding": "identity", "User-Agent": "levier-lab"},
    )


class Download:
    """A file that is being fetched. `status` is the archive's once `begun` returned; 502 when it cannot be asked."""

    def __init__(self, cache: PackageCache, place: Path) -> None:
        self.status = 0
        self.size_bytes: int | None = None
        self._cache, self._place = cache, place
        self._part: Path | None = None
        self._written = 0
        self._ended = False
        self._news = asyncio.Condition()

    async def begun(self) -> None:
        """The archive has answered, or cannot be asked."""
        async with self._news:
            await self._news.wait_for(lambda: self.status and (self._written or self._ended))

    async def run(self, client: httpx.AsyncClient, url: str, *, unless_newer_than: float | None) -> None:
        """The file is in the cache, or `status` says why not. With `unless_newer_than` (seconds since the epoch) it is
        fetched only if it has changed since; 304 otherwise.
        """
        condition = (
            {} if unless_newer_than is None else {"If-Modified-Since": formatdate(unless_newer_than, usegmt=True)}
        )
        try:
            async with client.stream("GET", url, headers=condition) as response:
                await self._take(response)
        except (httpx.HTTPError, OSError, ValueError) as error:
            _log.warning("%s: %s", type(error).__name__, self._place.name)
            self.status = self.status if self.status and self._part else 502
        finally:
            await self._end()

    async def _take(self, response: httpx.Response) -> None:
        if response.status_code != 200:
            self.status = response.status_code if response.status_code in (304, 403, 404, 410) else 502
            return
        self._part = self._cache.fresh_part(self._place)
        length = response.headers.get("Content-Length")
        self.size_bytes = int(length) if length else None
        with self._part.open("wb") as file:
            self.status = 200
            async for chunk in response.aiter_raw(_CHUNK_BYTES):
                file.write(chunk)
                file.flush()
                async with self._news:
                    self._written += len(chunk)
                    self._news.notify_all()
        if self.size_bytes in (None, self._written):
            modified = response.headers.get("Last-Modified")
            seconds = parsedate_to_datetime(modified).timestamp() if modified else 0.0
            self._cache.keep(self._part, self._place, modified=seconds)
            self._part = None

    async def _end(self) -> None:
        async with self._news:
            self._ended = True
            self._news.notify_all()
        if self._part is not None:
            self._part.unlink(missing_ok=True)

    async def content(self) -> AsyncIterator[bytes]:
        """The file's bytes as they arrive. Raises ConnectionError when the archive broke off."""
        with (self._part or self._place).open("rb") as file:
            position = 0
            while True:
                async with self._news:
                    # B023: the function is called only before this line is left, so that `position` is the one of now.
                    await self._news.wait_for(lambda: self._written > position or self._ended)  # noqa: B023
                while chunk := file.read(_CHUNK_BYTES):
                    position += len(chunk)
                    yield chunk
                if self._ended and position >= self._written:
                    break
        if self.size_bytes not in (None, position):
            raise ConnectionError("the archive broke off")
