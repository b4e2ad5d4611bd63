"""HTTP as the firmware and the ramdisk of `stub` machines speak it: plain, direct, without a thread."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from levier.domain.errors import Rejected, Unreachable
from levier.lab.guest.http import HttpRefused

_TIMEOUT = httpx.Timeout(60.0, connect=10.0)


class AsyncWire:
    """One for all machines of a rack: connections are kept and shared. Fits `levier.lab.guest.agent.Wire`."""

    def __init__(self) -> None:
        # Without the proxies of the environment that the lab was started from: a machine knows none.
        self._client = httpx.AsyncClient(
            timeout=_TIMEOUT,
            trust_env=False,
            headers={"User-Agent": "levier-lab"},
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
        )

    async def close(self) -> None:
        """No connection is left."""
        await self._client.aclose()

    async def fetch(self, url: str, *, bearer: str = "", body: bytes | None = None) -> bytes:
        """The whole body of the answer; POST when there is a body. Raises HttpRefused and Unreachable."""
        async with self._answer(url, bearer=bearer, body=body) as answer:
            return await answer.aread()

    async def drain(self, url: str) -> int:
        """The whole body was received and thrown away; its size in bytes is returned."""
        async with self._answer(url) as answer:
            return sum([len(piece) async for piece in answer.aiter_raw()])

    async def sleep(self, seconds: float) -> None:
        """That many seconds have passed."""
        await asyncio.sleep(seconds)

    @asynccontextmanager
    async def stream(self, url: str, *, bearer: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """The body in pieces as they come. Raises HttpRefused and Unreachable, also while it is read."""
        async with self._answer(url, bearer=bearer) as answer:
            yield answer.aiter_raw()

    @asynccontextmanager
    async def _answer(self, url: str, *, bearer: str = "", body: bytes | None = None) -> AsyncIterator[httpx.Response]:
        if not url.startswith("http://"):
            raise Rejected(f"{url}: only http:// is supported by this firmware")
        headers = {"Content-Type": "text/plain; charset=utf-8"} if body is not None else {}
        if bearer:
            headers["Authorization"] = f"Bearer {bearer}"
        try:
            async with self._client.stream(
                "GET" if body is None else "POST", url, content=body, headers=headers
            ) as answer:
                if answer.is_error:
                    raise HttpRefused(url, answer.status_code, (await answer.aread())[:1000].decode(errors="replace"))
                yield answer
        except httpx.HTTPError as error:
            raise Unreachable(f"{url}: {error or type(error).__name__}") from error


class Digest:
    """Counts and digests a stream as it passes."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0

    def add(self, piece: bytes) -> None:
        """The piece is counted."""
        self._sha256.update(piece)
        self.size_bytes += len(piece)

    @property
    def sha256(self) -> str:
        """The digest of what came so far, in lower-case hexadecimal."""
        return self._sha256.hexdigest()
