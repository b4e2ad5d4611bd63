"""Makes TCP ports of a network namespace reachable on this namespace's loopback.

A listening socket stays in the namespace it was made in, and a connection is made in the namespace of the thread that
makes it (network_namespaces(7)): so this process listens first, then moves into the namespace and connects from there.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import socket
import sys
from pathlib import Path

from levier.domain.errors import LevierError
from levier.supervisor.lineage import enter_network_namespace

_CHUNK = 64 * 1024


async def relay(listening: list[socket.socket], *, namespace: str, ready_file: Path) -> None:
    """Connections to the sockets reach the same ports on the namespace's loopback, until SIGTERM or SIGINT.

    Raises NotFound when there is no such namespace.
    """
    enter_network_namespace(namespace)
    stopped = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stopped.set)
    servers = [await asyncio.start_server(_towards(each.getsockname()[1]), sock=each) for each in listening]
    ready_file.touch()
    await stopped.wait()
    for server in servers:
        server.close()


class _towards:
    """Serves one accepted connection by one to `port` on loopback."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            try:
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                return  # Nobody listens there now: the caller sees the connection closed.
            with contextlib.closing(far_writer):
                await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Everything `source` says reached `sink`, its end included; or one of the two broke off."""
    with contextlib.suppress(ConnectionError):
        while data := await source.read(_CHUNK):
            sink.write(data)
            await sink.drain()
        sink.write_eof()


def main(argv: list[str] | None = None) -> int:
    """The relay ran until it was told to stop; 1 when it could not start."""
    parser = argparse.ArgumentParser(prog="python -m levier.supervisor.relay", description=__doc__)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--port", type=int, action="append", required=True)
    parser.add_argument("--ready-file", type=Path, required=True)
    arguments = parser.parse_args(argv)
    try:
        listening = [socket.create_server(("127.0.0.1", port)) for port in arguments.port]
        asyncio.run(relay(listening, namespace=arguments.namespace, ready_file=arguments.ready_file))
    except (OSError, LevierError) as error:
        print(f"relay: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
