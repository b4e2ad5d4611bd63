"""Sockets of another network namespace, so that a server or a client in this process can be inside a lab."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_CLONE_NEWNET = 0x40000000


def listening_socket(namespace: Path, address: tuple[str, int]) -> socket.socket:
    """A TCP socket of that namespace, bound and listening."""
    return _made_inside(namespace, lambda: socket.create_server(address, backlog=256))


def connected(namespace: str | Path, address: tuple[str, int], *, timeout_s: float = 5) -> socket.socket:
    """A TCP connection that was made inside that namespace."""
    connection = _made_inside(Path(namespace), lambda: socket.create_connection(address, timeout=timeout_s))
    connection.settimeout(None)
    return connection


def _made_inside(namespace: Path, make: Callable[[], socket.socket]) -> socket.socket:
    """What `make` returns or raises in a thread that enters the namespace, and ends."""

    def enter() -> socket.socket:
        libc = ctypes.CDLL(None, use_errno=True)
        fd = os.open(namespace, os.O_RDONLY)
        try:
            if libc.setns(fd, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
        finally:
            os.close(fd)
        return make()

    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(enter).result()
