"""Whether the ports an installation wants are free."""

from __future__ import annotations

import errno
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from levier.domain.errors import Conflict
from levier.supervisor.lineage import enter_network_namespace


@dataclass(frozen=True, slots=True)
class WantedPort:
    """A TCP port that a process will listen on, and the option of `levier up` that changes it."""

    host: str
    port: int
    option: str
    namespace: str | None = None


def check_free(wanted: tuple[WantedPort, ...]) -> None:
    """Every port can be listened on now. Safe to repeat. Raises Conflict for the first that cannot."""
    for each in wanted:
        # A thread of its own: entering a network namespace cannot be taken back.
        with ThreadPoolExecutor(max_workers=1) as thread:
            thread.submit(_check, each).result()


def _check(wanted: WantedPort) -> None:
    place = ""
    if wanted.namespace:
        enter_network_namespace(wanted.namespace)
        place = f" in network namespace {wanted.namespace}"
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((wanted.host, wanted.port))
            probe.listen(1)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise Conflict(f"cannot listen on {wanted.host}:{wanted.port}{place}: {error.strerror}") from error
            raise Conflict(
                f"TCP port {wanted.port} on {wanted.host}{place} is taken by another process",
                hint=f"stop it (`ss -ltnp sport = :{wanted.port}` shows it), or choose another with {wanted.option}",
            ) from error
