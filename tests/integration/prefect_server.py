"""A real Prefect server on a free port of loopback, and what tests ask of it over REST."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx

from levier.supervisor.catalogue import PREFECT_SERVER_SETTINGS

T = TypeVar("T")
ROOT = Path(__file__).parents[2]


def until(condition: Callable[[], T | None], *, timeout_s: float, what: str) -> T:
    """The first true result of `condition`, asked every 50 ms, and once more after the deadline."""
    deadline = time.monotonic() + timeout_s
    while True:
        late = time.monotonic() >= deadline  # before the look: this computer may stand still between two looks
        result = condition()
        if result is not None and result is not False and result != []:
            return result
        assert not late, f"not within {timeout_s} s: {what}"
        time.sleep(0.05)


def free_port() -> int:
    """A TCP port that is free on loopback now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class PrefectServer:
    """A running server with its own home and database."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self.api_url = f"http://127.0.0.1:{self.port}/api"
        self.client = httpx.Client(base_url=self.api_url, timeout=60)

    def environment(self) -> dict[str, str]:
        """The environment of its clients."""
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PREFECT_HOME": str(self.home),
            "PREFECT_API_URL": self.api_url,
            **PREFECT_SERVER_SETTINGS,
            "PREFECT_WORKER_QUERY_SECONDS": "0.5",
        }

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """The server answers; it is gone afterwards."""
        argv = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        with (self.home / "server.log").open("ab") as log:
            process = subprocess.Popen(
                argv, env=self.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            until(self._ready, timeout_s=300, what=f"the Prefect server is ready, see {self.home}/server.log")
            yield
        finally:
            process.terminate()
            process.wait(timeout=30)

    def _ready(self) -> bool:
        try:
            return self.client.get("/ready").status_code == 200
        except httpx.HTTPError:
            return False

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        """The server's answer. On SQLite it answers 503 when two transactions met, and asks to be asked again."""

        def attempt() -> httpx.Response | None:
            response = self.client.request(method, path, json=body)
            return None if response.status_code == 503 else response

        return until(attempt, timeout_s=60, what=f"{method} {path} is answered")

    def deployment(self, full_name: str) -> dict[str, Any]:
        """The deployment `flow/name`."""
        response = self.call("GET", f"/deployments/name/{full_name}")
        response.raise_for_status()
        return dict(response.json())

    def start_run(self, full_name: str, parameters: dict[str, Any]) -> str:
        """A flow run is scheduled; its id."""
        body = {"parameters": parameters}
        response = self.call("POST", f"/deployments/{self.deployment(full_name)['id']}/create_flow_run", body)
        response.raise_for_status()
        return str(response.json()["id"])

    def run(self, run_id: str) -> dict[str, Any]:
        """The flow run as the server knows it."""
        return dict(self.call("GET", f"/flow_runs/{run_id}").json())

    def state(self, run_id: str) -> str:
        """The state's type, in upper case."""
        return str(self.run(run_id)["state"]["type"])

    def task_runs(self, run_id: str) -> list[dict[str, Any]]:
        """The run's task runs."""
        body = {"flow_runs": {"id": {"any_": [run_id]}}}
        return list(self.call("POST", "/task_runs/filter", body).json())

    def cancel(self, run_id: str) -> None:
        """The run is asked to stop, as the UI's button does."""
        body = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
        assert self.call("POST", f"/flow_runs/{run_id}/set_state", body).json()["status"] == "ACCEPT"

    def retry(self, run_id: str) -> None:
        """The run is scheduled again under its id, as the UI's Retry button does."""
        details = {"scheduled_time": datetime.now(UTC).isoformat()}
        body = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry", "state_details": details}, "force": True}
        assert self.call("POST", f"/flow_runs/{run_id}/set_state", body).json()["status"] == "ACCEPT"
