"""An installation over a rack of stub machines whose flows stand still where a test wants them to."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Mapping
from pathlib import Path

from ruamel.yaml import YAML

from flows.deployments import default_file
from levier.supervisor.lineage import identity_of, kill, wait_gone
from tests.integration.e2e.gated import GATES
from tests.integration.e2e.installation import Installation
from tests.integration.e2e.terminal import until
from tests.integration.prefect_server import free_port

MACHINES = 19
"""One for each step of an expand."""
ROOT = Path(__file__).parents[3]


class GatedInstallation(Installation):
    """Stub machines, so that a deployment takes a second; the gates of tests.integration.e2e.gated in its flows."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, lab="gates")
        self.gates = directory / "gates"
        self.gates.mkdir()
        environment = self.terminal.environment
        environment[GATES] = str(self.gates)
        environment["LEVIER_DEPLOYMENTS"] = str(self._deployments())
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])

    def _deployments(self) -> Path:
        """Production's deployments, but that expand and inspect come with gates."""
        yaml = YAML()
        document = yaml.load(default_file())
        for each in document["deployments"]:
            if each["name"] in {"expand", "inspect"}:
                each["entrypoint"] = f"tests.integration.e2e.gated.{each['name']}"
        path = self.directory / "prefect.yaml"
        yaml.dump(document, path)
        return path

    def _start_lab(self) -> None:
        ports = ("--bmc-port", str(_free_udp_port()), "--ssh-port", str(free_port()))
        rack = ("--chassis", "stub", "--nodes", str(MACHINES))
        self.terminal.ok("lab", "up", "--name", self.lab, *rack, *ports)
        self.up()
        lab = self.terminal.json("lab", "status", "--name", self.lab)
        self.machine_names = tuple(node["name"] for node in lab["nodes"])
        self.terminal.ok("ramdisk", "import", lab["ramdisk_file"])
        self.terminal.ok("image", "import", lab["image"], lab["image_file"])

    def up(self) -> None:
        """`levier up`, where the machines are."""
        self.terminal.ok("up", "--detach", timeout_s=600)

    # --- gates ------------------------------------------------------------------------------------------------------

    def shut(self, plan: Mapping[str, str]) -> None:
        """From now on each node of `plan` stands still when it has begun that step."""
        for trace in self.gates.iterdir():
            trace.unlink()
        (self.gates / "plan.json").write_text(json.dumps(dict(plan)))

    def opened(self) -> None:
        """All gates are open, and stay so."""
        (self.gates / "open").touch()

    def at_gate(self, *nodes: str, other_than: int = 0) -> int:
        """The pid of the process in which all of `nodes` stand at their gates (another one than `other_than`)."""

        def look() -> int | None:
            pids = {self._pid(node) for node in nodes}
            return pids.pop() if len(pids) == 1 and not pids & {None, other_than} else None

        found = until(look, what=f"{', '.join(nodes)} stand at their gates", every_s=0.05)
        assert found is not None
        return found

    def _pid(self, node: str) -> int | None:
        trace = self.gates / f"at-{node}"
        text = trace.read_text() if trace.exists() else ""
        return int(text) if text else None

    def kill_flow(self, pid: int) -> None:
        """The flow's process is gone by kill -9."""
        identity = identity_of(pid)
        assert identity is not None
        assert kill(identity, signal.SIGKILL)
        assert not wait_gone([identity], timeout_s=10)


def _free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
