"""A server's consoles: what it wrote to its serial line, and its screen by VNC through nova's proxy."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from openstack import exceptions
from openstack.connection import Connection
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect
from websockets.sync.connection import Connection as WebSocket

from levier.domain.errors import MalformedReply, Rejected, Unreachable

_VERSION = b"RFB 003.008\n"
_NO_PASSWORD = 1
_NOT_YET = frozenset({404, 409})


@dataclass(frozen=True, slots=True)
class Screen:
    """What a VNC server says of itself. Pixels."""

    width: int
    height: int
    name: str


def console_text(cloud: Connection, server: str) -> str:
    """All that the server wrote to its serial console and the hypervisor kept; empty while there is none yet."""
    try:
        return str(cloud.compute.get_server_console_output(server)["output"] or "")
    except exceptions.HttpException as error:
        if error.status_code in _NOT_YET:
            return ""
        raise


def screen_path(cloud: Connection, server: str) -> str:
    """The path at the proxy that opens the server's screen for some minutes: a secret. Raises MalformedReply."""
    url = str(cloud.compute.create_server_remote_console(server, protocol="vnc", type="novnc").url)
    outer = parse_qs(urlsplit(url).query)
    # `path=?token=…` since noVNC 1.0, `token=…` before.
    inner = parse_qs(urlsplit(outer.get("path", [""])[0]).query)
    token = next(iter(inner.get("token", []) or outer.get("token", [])), None)
    if token is None:
        raise MalformedReply("nova gave a console's address without a token")
    return f"/?token={token}"


def look_at_screen(address: str, port: int, path: str, *, timeout_s: float = 20.0) -> Screen:
    """The proxy at the address showed the screen: a whole handshake of RFC 6143 up to the screen's size.

    Raises Unreachable when the proxy does not answer, Rejected when it or the VNC server refuses, MalformedReply.
    """
    try:
        with connect(
            f"ws://{address}:{port}{path}",
            subprotocols=["binary"],  # type: ignore[list-item] # a NewType of str
            open_timeout=timeout_s,
            close_timeout=2,
            proxy=None,
        ) as socket:
            return _handshake(_Bytes(socket, timeout_s))
    except OSError as error:
        raise Unreachable(f"the console proxy at {address}:{port} does not answer: {error}") from error
    except WebSocketException as error:
        # Never with the path: the token in it opens the screen.
        raise Rejected(
            f"the console proxy at {address}:{port} refuses: {str(error).replace(path, '/***')}",
            hint="journalctl -u levier-nova-novncproxy on its host",
        ) from error


class _Bytes:
    """Messages of a web socket as a stream."""

    def __init__(self, socket: WebSocket, timeout_s: float) -> None:
        self._socket = socket
        self._timeout_s = timeout_s
        self._pending = b""

    def send(self, content: bytes) -> None:
        self._socket.send(content)

    def read(self, count: int) -> bytes:
        while len(self._pending) < count:
            part = self._socket.recv(timeout=self._timeout_s)
            self._pending += part.encode() if isinstance(part, str) else part
        taken, self._pending = self._pending[:count], self._pending[count:]
        return taken


def _handshake(stream: _Bytes) -> Screen:
    """RFC 6143, section 7.1 to 7.3.2."""
    version = stream.read(len(_VERSION))
    if version[:6] != b"RFB 00":
        raise MalformedReply(f"the console proxy speaks no RFB: {version!r}")
    stream.send(_VERSION)
    kinds = stream.read(stream.read(1)[0])
    if not kinds:
        raise Rejected(f"the VNC server refuses: {_reason(stream)}")
    if _NO_PASSWORD not in kinds:
        raise Rejected(f"the VNC server wants a password: security types {list(kinds)}")
    stream.send(bytes([_NO_PASSWORD]))
    if stream.read(4) != bytes(4):
        raise Rejected(f"the VNC server refuses: {_reason(stream)}")
    stream.send(b"\x01")  # others may look too
    width, height = struct.unpack(">HH", stream.read(4))
    stream.read(16)  # the format of a pixel
    (length,) = struct.unpack(">I", stream.read(4))
    return Screen(width, height, stream.read(min(length, 4096)).decode("utf-8", "replace"))


def _reason(stream: _Bytes) -> str:
    (length,) = struct.unpack(">I", stream.read(4))
    return stream.read(min(length, 4096)).decode("utf-8", "replace")
