"""A screen over a web socket, as nova's proxy gives it: QEMU's own VNC server speaks the same two protocols."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from drivers.openstack.consoles import look_at_screen
from levier.domain.errors import Rejected, Unreachable

pytestmark = pytest.mark.root
PATIENCE_S = 20.0
_FIRST_DISPLAY = 5900
"""The TCP port of display 0."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def screen(*options: str, name: str = "smoke") -> Iterator[int]:
    """The port at which the screen of a machine that does not run is shown."""
    port = free_port()
    shown = ",".join((f"127.0.0.1:{free_port() - _FIRST_DISPLAY}", f"websocket=127.0.0.1:{port}", *options))
    machine = ["qemu-system-x86_64", "-S", "-machine", "pc", "-m", "64", "-name", name, "-vnc", shown]
    child = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *machine], stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            assert child.poll() is None, child.stderr and child.stderr.read()
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)  # between two attempts
        yield port
    finally:
        child.kill()
        child.communicate()


def test_the_screen_is_seen_with_size_and_name() -> None:
    with screen(name="instance-00000001") as port:
        seen = look_at_screen("127.0.0.1", port, "/")
    assert seen.width >= 640
    assert seen.height >= 400
    assert "instance-00000001" in seen.name


def test_a_screen_that_wants_a_password_is_refused() -> None:
    with screen("password=on") as port, pytest.raises(Rejected, match="wants a password"):
        look_at_screen("127.0.0.1", port, "/")


def test_nobody_there_is_unreachable() -> None:
    with pytest.raises(Unreachable, match="does not answer"):
        look_at_screen("127.0.0.1", free_port(), "/")


def test_who_speaks_no_web_socket_is_refused_and_the_token_is_not_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

        def refuse() -> None:
            peer, _ = server.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(answer)

        thread = threading.Thread(target=refuse)
        thread.start()
        with pytest.raises(Rejected, match="403") as caught:
            look_at_screen("127.0.0.1", port, "/?token=secrettoken")
        thread.join()
    assert "secrettoken" not in str(caught.value)
