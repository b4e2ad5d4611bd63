"""Sockets of another network namespace, so that a server in this process can listen inside a lab."""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from pathlib import Path

_CLONE_NEWNET = 0x40000000


def listening_socket(namespace: Path, address: tuple[str, int]) -> socket.socket:
    """A TCP socket of that namespace, bound and listening; made by a thread that enters it, and ends."""
    made: list[socket.socket | OSError] = []

    def enter() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        fd = os.open(namespace, os.O_RDONLY)
        try:
            if libc.setns(fd, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
            made.append(socket.create_server(address, backlog=256))
        except OSError as error:
            made.append(error)
        finally:
            os.close(fd)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]
