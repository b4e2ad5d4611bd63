"""What there is on the hosts and what Levier knows of them, as a set of lines that can be compared."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from levier.lab.rack import Rack
from levier.services.components.installed import installed_components
from levier.services.provisioning import LOGIN_KEY
from levier.services.registry import Services

_PROBE = Path(__file__).parent / "probe.sh"
_PROBE_S = 120.0
_SHOWN = 12
_OPTIONS = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes")


@dataclass(frozen=True, slots=True)
class World:
    """Everything that an installation may change."""

    lines: frozenset[str]

    def differences(self, wanted: World, *, besides: World | None = None) -> Iterator[str]:
        """In what this world is not the one that was wanted. Lines of `besides` may be there or not."""
        free = besides.lines if besides else frozenset()
        found = [
            *(f"there is {line}" for line in sorted(self.lines - wanted.lines - free)),
            *(f"there is no {line}" for line in sorted(wanted.lines - self.lines - free)),
        ]
        yield from found[:_SHOWN]
        if len(found) > _SHOWN:
            yield f"and {len(found) - _SHOWN} more"

    def unlike(self, other: World) -> World:
        """What is in only one of them."""
        return World(self.lines ^ other.lines)


@dataclass(frozen=True, slots=True)
class Observer:
    """Looks at the hosts of a rack with a login of its own: no driver of Levier's takes part."""

    lab: Rack
    services: Services
    directory: Path

    def look(self, *, operation: str = "") -> World:
        """The world now. What hosts keep for `operation` is named alike, whichever operation it is."""
        nodes = self.services.inventory.nodes()
        with ThreadPoolExecutor(len(nodes)) as threads:
            told = list(threads.map(lambda node: self._told(str(node["address"])), nodes))
        lines = [f"{node['name']}: {line}" for node, own in zip(nodes, told, strict=True) for line in own]
        lines += [f"Levier: {n['name']} is {n['state']}, held by {n['operation']}" for n in nodes]
        # Those of components are made once, and stay.
        made = {secret.name for each in installed_components().values() for secret in each.secrets}
        lines += [f"Levier: secret {name}" for name in self.services.secrets.names() if name not in made]
        unique = operation.rpartition("-")[2]
        return World(frozenset(line.replace(unique, "OPERATION") if unique else line for line in lines))

    def _told(self, address: str) -> list[str]:
        options = [word for option in _OPTIONS for word in ("-o", option)]
        ssh = self.lab.inside("ssh", "-F", "/dev/null", "-i", str(self._key()), *options, f"root@{address}", "exec sh")
        done = subprocess.run(ssh, stdin=_PROBE.open("rb"), capture_output=True, timeout=_PROBE_S)
        assert done.returncode == 0, f"{address}: {done.stderr.decode()[-1000:]}"
        return done.stdout.decode().splitlines()

    def _key(self) -> Path:
        path = self.directory / "observer-key"
        if not path.exists():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(self.services.secrets.get(LOGIN_KEY)["private"])
        return path
