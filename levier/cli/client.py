"""The command line's connection to Levier's REST API."""

from __future__ import annotations

import os
import pwd
import socket
from pathlib import Path
from typing import Any

import httpx

from levier.domain.errors import InvalidRequest, LevierError
from levier.services.settings import load_settings

_SENDING = httpx.Timeout(30.0, read=1800.0)
"""For files: a large image is unpacked once before the answer."""


class ApiError(LevierError):
    """The API refused, or did not answer. `problems` are the single findings of a site file."""

    def __init__(self, message: str, *, hint: str = "", problems: list[dict[str, Any]] | None = None) -> None:
        super().__init__(message, hint=hint)
        self.problems = problems or []


def operator() -> str:
    """Who types, for the audit: the login name (under sudo, the one before it) and this host."""
    try:
        login = os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's made-up uid has no name
        login = f"uid {os.getuid()}"
    return f"{login}@{socket.gethostname()}"


class ApiClient:
    """Calls of the REST API; every failure is an ApiError that names the cause and the way out."""

    def __init__(self, base_url: str, token: str, *, timeout_s: float = 30.0) -> None:
        self.base_url = base_url
        headers = {"Authorization": f"Bearer {token}", "X-Levier-User": operator()}
        self._http = httpx.Client(base_url=f"{base_url}/v1", headers=headers, timeout=timeout_s)

    def get(self, path: str, **query: Any) -> Any:
        """The decoded answer to a GET. Safe to repeat."""
        return self._call("GET", path, params=query)

    def post(self, path: str, json: Any = None, *, text: str | None = None, **query: Any) -> Any:
        """The decoded answer to a POST of `json` or of plain `text`."""
        if text is None:
            return self._call("POST", path, json=json, params=query)
        return self._call("POST", path, content=text.encode(), headers={"Content-Type": "text/plain"}, params=query)

    def put(self, path: str, json: Any) -> Any:
        """The decoded answer to a PUT. Safe to repeat."""
        return self._call("PUT", path, json=json)

    def receive_file(self, path: str, file: Path) -> None:
        """The file holds what a GET answers; it is there whole or not at all. Safe to repeat."""
        half = file.with_name(f".{file.name}.part")
        try:
            with self._http.stream("GET", path, timeout=_SENDING) as response, half.open("wb") as out:
                if response.is_error:
                    response.read()
                    raise _refusal(response)
                for piece in response.iter_bytes():
                    out.write(piece)
            half.replace(file)
        except httpx.TransportError as error:
            raise self._silent(error) from error
        except OSError as error:
            raise InvalidRequest(f"{file} cannot be written: {error.strerror}") from error
        finally:
            half.unlink(missing_ok=True)

    def send_file(self, path: str, file: Path, **query: Any) -> Any:
        """The decoded answer to a PUT of the file's content, however long its checking takes. Safe to repeat."""
        try:
            with file.open("rb") as content:
                return self._call("PUT", path, content=content, params=query, timeout=_SENDING)
        except OSError as error:
            raise InvalidRequest(f"{file} cannot be read: {error.strerror}") from error

    def delete(self, path: str) -> Any:
        """The decoded answer to a DELETE. Safe to repeat."""
        return self._call("DELETE", path)

    def _call(self, method: str, path: str, **options: Any) -> Any:
        try:
            response = self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise self._silent(error) from error
        if response.is_error:
            raise _refusal(response)
        return response.json() if response.content else None

    def _silent(self, error: httpx.TransportError) -> ApiError:
        return ApiError(
            f"the Levier API at {self.base_url} does not answer: {error}",
            hint="start it with `levier up`, or set LEVIER_API_URL",
        )


def _refusal(response: httpx.Response) -> ApiError:
    try:
        body = response.json()
    except ValueError:
        return ApiError(f"the API answered {response.status_code}: {response.text[:300]}")
    detail = body.get("detail", body)
    if isinstance(detail, list):
        text = "; ".join(f"{'.'.join(str(p) for p in d.get('loc', ()))}: {d.get('msg')}" for d in detail)
        return ApiError(f"the API refuses the request: {text}")
    if not isinstance(detail, dict):
        return ApiError(f"the API answered {response.status_code}: {detail}")
    hint = str(detail.get("hint", ""))
    if response.status_code == 401:
        hint = "set LEVIER_TOKEN, or run the command as the user who runs `levier up`"
    return ApiError(str(detail.get("message", detail)), hint=hint, problems=detail.get("problems"))


def connect() -> ApiClient:
    """A client for the API of this installation, with the token from LEVIER_TOKEN or the state directory."""
    settings = load_settings()
    token = os.environ.get("LEVIER_TOKEN") or _token_from(settings.token_file)
    return ApiClient(settings.api_url, token)


def _token_from(path: Path) -> str:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        raise ApiError(
            f"there is no API token at {path}", hint="start Levier with `levier up`, or set LEVIER_TOKEN"
        ) from None
    except PermissionError:
        raise ApiError(
            f"the API token at {path} may not be read", hint="run as its owner, or set LEVIER_TOKEN"
        ) from None
