"""Racks for the tests: each with a name of its own, taken down whatever happened."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from levier.lab.rack import Rack
from levier.lab.spec import RackSpec, plan_rack
from tests.lab.host_image import build_image
from tests.lab.provisioning import BootService, Dnsmasq, wait_until

_serial = iter(range(1000))


def fresh_name() -> str:
    """A lab name that no other test run on this machine has: pytest's process id and a number."""
    return f"t{os.getpid()}-{next(_serial)}"


@dataclass
class Bench:
    """A rack with DHCP and a boot service beside it."""

    rack: Rack
    spec: RackSpec
    dhcp: Dnsmasq | None
    service: BootService

    def ipmi(self, node: str, *arguments: str) -> str:
        """What ipmitool says, run inside the lab."""
        done = self._ipmitool(node, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, node: str, *arguments: str) -> str:
        """What ipmitool complains about when the BMC refuses."""
        done = self._ipmitool(node, *arguments)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def _ipmitool(self, node: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        bmc, credentials = self.rack.bmc(node), self.rack.credentials()
        secret = self.rack.directory / "nodes" / node / "password"
        secret.touch(mode=0o600)
        secret.write_text(credentials.password)
        command = self.rack.inside(
            *("ipmitool", "-I", "lanplus", "-H", bmc.host, "-p", str(bmc.port)),
            *("-U", credentials.username, "-f", str(secret)),
            *("-N", "20", "-R", "2", *arguments),  # resent after 20 s: a command arrives once, unless told otherwise
        )
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    def show(self) -> None:
        """Prints what helps after a failure."""
        if not self.rack.layout.spec.exists():
            return
        for event in self.rack.events():
            if event.kind != "bmc-command":
                print(event.to_json())
        for console in self.rack.layout.nodes.glob("*/console.log"):
            print(console, console.read_text(errors="replace")[-3000:])
        print(self.rack.layout.daemon_log.read_text(errors="replace")[-3000:])

    def boots(self, node: str) -> list[tuple[str, str]]:
        """Device and cause of each boot so far."""
        return [(e.detail["device"], e.detail["why"]) for e in self.rack.events(node=node, kind="boot")]

    def powers(self, node: str) -> list[tuple[str, str]]:
        return [(e.detail["to"], e.detail["why"]) for e in self.rack.events(node=node, kind="power")]

    def wait_for_power(self, node: str, power: str, *, timeout_s: float = 60) -> None:
        wait_until(lambda: self.rack.node(node)["power"] == power, what=f"{node} {power}", timeout_s=timeout_s)

    def wait_for_boots(self, node: str, count: int, *, timeout_s: float = 120) -> None:
        wait_until(lambda: len(self.boots(node)) >= count, what=f"{count} boots of {node}", timeout_s=timeout_s)


@pytest.fixture
def make_bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Makes racks of the wanted kind."""
    made: list[Bench] = []

    def make(**wanted: object) -> Bench:
        name = fresh_name()
        spec = plan_rack(name=name, **wanted)  # type: ignore[arg-type]
        rack = Rack(name=name, directory=tmp_path / name)
        rack.up(spec)
        dhcp = Dnsmasq(spec.namespace, tmp_path) if spec.namespace else None
        service = BootService(spec.namespace, host=str(spec.server), port=spec.boot_port)
        bench = Bench(rack, spec, dhcp, service)
        made.append(bench)
        return bench

    yield make
    for bench in made:
        bench.show()
        bench.service.stop()
        if bench.dhcp is not None:
            bench.dhcp.stop()
        bench.rack.down()


@pytest.fixture(scope="session")
def host_image(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The compressed image that nspawn machines are given."""
    return build_image(tmp_path_factory.mktemp("image")).read_bytes()
