"""`levier up`, `down` and `status` as an operator uses them, with the real Prefect server and runner."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from levier.supervisor.lineage import identity_of, marked
from tests.integration.prefect_server import ROOT, free_port, until

# The commands as the CLI mounts them, with its way of showing errors.
LEVIER_CODE = """
import sys
from levier.domain.errors import LevierError
from levier.supervisor.cli import app
try:
    app()
except LevierError as error:
    sys.exit(f"error: {error}\\nway out: {error.hint}")
"""
LEVIER = (sys.executable, "-c", LEVIER_CODE)


class Operator:
    """Someone at a terminal, with an installation of their own."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.prefect_port = free_port()
        deployments = state_dir.parent / "prefect.yaml"
        deployments.write_text("deployments:\n- {name: probe, entrypoint: tests.integration.probe_flow.probe}\n")
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "LEVIER_STATE_DIR": str(state_dir),
            "LEVIER_PREFECT_PORT": str(self.prefect_port),
            "LEVIER_API_PORT": str(free_port()),
            "LEVIER_DEPLOYMENTS": str(deployments),
        }

    def levier(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [*LEVIER, *arguments]
        return subprocess.run(argv, env=self.environment, capture_output=True, text=True, check=False, timeout=600)

    def up(self, *names: str, more: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        only = [argument for name in names for argument in ("--only", name)]
        return self.levier("up", "--detach", *only, *more)

    def status(self) -> dict[str, Any]:
        document = json.loads(self.levier("status", "--json").stdout)
        assert isinstance(document, dict)
        return document

    def pids(self) -> dict[str, int]:
        return {entry["name"]: entry["pid"] for entry in self.status()["processes"]}

    def mark(self) -> str:
        return str(json.loads((self.state_dir / "run" / "supervisor.json").read_text())["mark"])

    def prefect_answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.prefect_port}/api/ready", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    operator = Operator(tmp_path / "state")
    yield operator
    operator.levier("down")


def succeeded(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
    return result.stdout


def test_up_survives_every_kill_and_down_leaves_nothing(operator: Operator) -> None:
    output = succeeded(operator.up("prefect", "runner"))
    assert f"http://127.0.0.1:{operator.prefect_port}" in output
    first = operator.status()
    assert first["ready"]
    assert operator.prefect_answers()

    assert "already runs" in succeeded(operator.up("prefect", "runner"))
    assert operator.pids() == {e["name"]: e["pid"] for e in first["processes"]}

    _kill_a_process(operator, "runner")
    _kill_the_supervisor(operator)
    assert operator.levier("status").returncode == 3

    succeeded(operator.up("prefect", "runner"))
    mark = operator.mark()
    assert len(list(marked(mark))) >= 2
    assert "stopped" in succeeded(operator.levier("down"))
    assert list(marked(mark)) == []
    assert not operator.prefect_answers()
    assert "No Levier runs" in succeeded(operator.levier("down"))


def _kill_a_process(operator: Operator, name: str) -> None:
    pid = operator.pids()[name]
    os.kill(pid, signal.SIGKILL)

    def replaced() -> bool:
        document = operator.status()
        return bool(document["ready"]) and operator.pids()[name] != pid

    until(replaced, timeout_s=60, what=f"{name} was restarted")


def _kill_the_supervisor(operator: Operator) -> None:
    children, mark = operator.pids(), operator.mark()
    os.kill(operator.status()["supervisor_pid"], signal.SIGKILL)
    for pid in children.values():
        until(lambda pid=pid: identity_of(pid) is None, timeout_s=60, what=f"{pid} died with its supervisor")  # type: ignore[misc]
    until(lambda: not list(marked(mark)), timeout_s=60, what="nothing of it is left")


def test_a_taken_port_is_refused_before_anything_starts(operator: Operator) -> None:
    with socket.create_server(("127.0.0.1", operator.prefect_port)):
        result = operator.up("prefect")
    assert result.returncode == 1
    assert f"port {operator.prefect_port} on 127.0.0.1 is taken" in " ".join(result.stderr.split())
    assert "--prefect-port" in result.stderr
    assert not operator.status()["running"]


def test_a_failing_process_is_shown_with_the_end_of_its_log(operator: Operator) -> None:
    operator.environment["LEVIER_DEPLOYMENTS"] = "/nonexistent/prefect.yaml"
    result = operator.up("runner")
    assert result.returncode == 1
    said = " ".join(result.stderr.split())
    assert "runner did not start: exited with status 2" in said
    assert "/nonexistent/prefect.yaml" in said
    assert "log/runner.log" in said
    assert not operator.status()["running"]


@contextlib.contextmanager
def network_namespace() -> Iterator[str]:
    name = f"lvt{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.mark.root
def test_inside_a_network_namespace_it_is_reached_through_the_relay(operator: Operator) -> None:
    with network_namespace() as namespace:
        succeeded(operator.up("relay", "prefect", more=("--netns", namespace)))
        prefect = operator.pids()["prefect"]
        inside = os.stat(f"/run/netns/{namespace}").st_ino
        assert os.stat(f"/proc/{prefect}/ns/net").st_ino == inside
        assert operator.status()["netns"] == namespace
        assert operator.prefect_answers()
        # A long-lived connection and several at once go through as well.
        with httpx.Client(base_url=f"http://127.0.0.1:{operator.prefect_port}/api") as client:
            assert [client.get("/version").status_code for _ in range(20)] == [200] * 20
        succeeded(operator.levier("down"))
        assert not operator.prefect_answers()


@pytest.mark.root
def test_an_unknown_network_namespace_is_refused(operator: Operator) -> None:
    result = operator.up("prefect", more=("--netns", "no-such-namespace"))
    assert result.returncode == 1
    assert "no-such-namespace" in result.stderr
    assert not operator.status()["running"]
