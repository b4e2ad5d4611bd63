"""HTTP as a machine's firmware speaks it: plain, direct, on the provisioning network."""

from __future__ import annotations

import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse
from typing import cast

from levier.domain.errors import Rejected, Unreachable

_TIMEOUT_S = 60.0
_CHUNK = 1 << 20
# Without the proxies of the environment that the lab was started from: a machine knows none.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class HttpRefused(Rejected):
    """The server answered with an error status."""

    def __init__(self, url: str, status: int, body: str) -> None:
        super().__init__(f"{url}: HTTP {status} {body.strip()[:200]}")
        self.status = status


def open_url(url: str, *, bearer: str = "", body: bytes | None = None) -> HTTPResponse:
    """The open answer with status 2xx; POST when there is a body. Raises HttpRefused and Unreachable."""
    if not url.startswith("http://"):
        raise Rejected(f"{url}: only http:// is supported by this firmware")
    headers = {"User-Agent": "levier-lab"}
    if body is not None:
        headers["Content-Type"] = "text/plain; charset=utf-8"
    if bearer:
        headers["Authorization"] = f"Bearer {bearer}"
    request = urllib.request.Request(url, data=body, headers=headers)  # noqa: S310 - scheme checked above
    try:
        return cast(HTTPResponse, _OPENER.open(request, timeout=_TIMEOUT_S))
    except urllib.error.HTTPError as error:
        with error:
            raise HttpRefused(url, error.code, error.read(1000).decode(errors="replace")) from error
    except (urllib.error.URLError, OSError, HTTPException) as error:
        raise Unreachable(f"{url}: {getattr(error, 'reason', error)}") from error


def fetch(url: str, *, bearer: str = "", body: bytes | None = None) -> bytes:
    """The whole body of the answer."""
    with open_url(url, bearer=bearer, body=body) as answer:
        return answer.read()


def drain(url: str) -> int:
    """The whole body was received and thrown away; its size in bytes is returned."""
    size = 0
    with open_url(url) as answer:
        while chunk := answer.read(_CHUNK):
            size += len(chunk)
        if answer.length:
            raise Unreachable(f"{url}: the answer ended {answer.length} bytes early")
    return size
