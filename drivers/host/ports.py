"""Who listens on a host."""

from __future__ import annotations

import re
from collections.abc import Sequence

from levier.domain.ssh import RemoteHost

_TIMEOUT_S = 30.0
_PROGRAM = re.compile(r'users:\(\("([^"]+)",pid=(\d+)')


def listeners(host: RemoteHost, ports: Sequence[int]) -> dict[int, str]:
    """TCP port → the program that listens there, as `name (process 12)`, of those `ports` that are taken.

    Safe to repeat. Source: ss(8), one line a socket: state, two queues, local and peer address, users.
    """
    lines = host.run("ss -Hltnp", timeout_s=_TIMEOUT_S).stdout.splitlines()
    taken = {}
    for line in lines:
        words = line.split()
        port = int(words[3].rpartition(":")[2])
        if port in ports:
            program = _PROGRAM.search(line)
            taken[port] = f"{program[1]} (process {program[2]})" if program else "an unknown program"
    return taken
