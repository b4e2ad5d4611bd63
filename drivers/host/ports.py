"""Who listens on a host."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from drivers.host.units import observe_units
from levier.domain.ssh import RemoteHost

_TIMEOUT_S = 30.0
_SYSTEMD = "1"
_PROGRAM = re.compile(r'users:\(\("([^"]+)",pid=(\d+)')


def listeners(host: RemoteHost, ports: Sequence[int], *, besides: Collection[str] = ()) -> dict[int, str]:
    """TCP port → the program that listens there, as `name (process 12)`, of those `ports` that are taken.

    By others than the units `besides`: what a unit started is in its control group; for a socket unit systemd listens
    itself; a socket of no process is the kernel's, and theirs when one of them is up. Safe to repeat. Sources: ss(8),
    one line a socket: state, two queues, local and peer address, users; cgroups(7), /proc/PID/cgroup;
    systemd.socket(5).
    """
    lines = host.run("ss -Hltnp", timeout_s=_TIMEOUT_S).stdout.splitlines()
    taken = {}
    for line in lines:
        port = int(line.split()[3].rpartition(":")[2])
        if port in ports:
            program = _PROGRAM.search(line)
            taken[port] = (program[1], program[2]) if program else None
    own = _processes_of(host, besides, {found[1] for found in taken.values() if found})
    others = {port: found for port, found in taken.items() if found is not None and found[1] not in own}
    kernels = [port for port, found in taken.items() if found is None]
    if kernels and any(not unit.stopped for unit in observe_units(host, list(besides))):
        kernels = []
    programs = {port: f"{name} (process {pid})" for port, (name, pid) in others.items()}
    return {**programs, **dict.fromkeys(kernels, "the kernel, or an unknown program")}


def _processes_of(host: RemoteHost, units: Collection[str], processes: Collection[str]) -> frozenset[str]:
    """Those of the `processes` that the units started; one that has ended meanwhile is nobody's any more."""
    if not processes or not units:
        return frozenset()
    ids = " ".join(sorted(processes))
    script = f'for pid in {ids}; do echo "$pid $(tail -n 1 "/proc/$pid/cgroup" 2>/dev/null)"; done'
    answer = host.run(script, timeout_s=_TIMEOUT_S).stdout
    groups = {pid: group.rpartition(":")[2] for pid, _, group in (line.partition(" ") for line in answer.splitlines())}
    own = {pid for pid, group in groups.items() if not group or not set(group.split("/")).isdisjoint(units)}
    return frozenset(own | {_SYSTEMD} if any(unit.endswith(".socket") for unit in units) else own)
