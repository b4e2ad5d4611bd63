"""A TCP path that can be cut or frozen: connections to a loopback port are carried on to another place."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable

_CHUNK_BYTES = 64 * 1024


class Wire:
    """Listens on `port` of 127.0.0.1 and carries every connection to the socket that `connect` makes."""

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._flowing = threading.Event()
        self._flowing.set()
        self._closed = False
        self.accepted = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Every connection ends at once with a TCP reset on both sides; new ones are carried."""
        with self._lock:
            open_now, self._open = self._open, set()
        for sock in open_now:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.shutdown(socket.SHUT_RD)
            sock.close()

    def freeze(self) -> None:
        """Nothing is carried any more, and nothing ends: what a hung host looks like."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Everything held back is carried on."""
        self._flowing.set()

    def close(self) -> None:
        """The port is closed and every connection ended. Safe to repeat."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.thaw()
        self.cut()

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                far = self._connect()
            except OSError:
                near.close()
                continue
            for sock in (near, far):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open |= {near, far}
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK_BYTES):
                self._flowing.wait()
                sink.sendall(data)
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
            with self._lock:
                self._open.discard(sock)


def wire_to(port: int) -> Wire:
    """A wire to another loopback port."""
    return Wire(lambda: socket.create_connection(("127.0.0.1", port)))
