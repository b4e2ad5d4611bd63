"""The runner against a real Prefect server: registration, parameters, kills of each process, cancelling, resuming."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from levier.supervisor.lineage import identity_of
from tests.integration.prefect_server import PrefectServer, until

PROBE = "probe/probe"


class Runner:
    """`python -m flows.serve`, started and killed by the tests."""

    def __init__(self, server: PrefectServer, home: Path) -> None:
        self._server = server
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None
        (home / "prefect.yaml").write_text(
            "deployments:\n- {name: probe, entrypoint: tests.integration.probe_flow.probe, tags: [t]}\n"
        )

    def start(self) -> None:
        ready = self._home / "ready"
        ready.unlink(missing_ok=True)
        argv = [sys.executable, "-m", "flows.serve", "--name", "r1", "--limit", "4"]
        argv += ["--deployments", str(self._home / "prefect.yaml"), "--ready-file", str(ready)]
        environment = {**self._server.environment(), "LEVIER_STATE_DIR": str(self._home / "state")}
        with (self._home / "runner.log").open("ab") as log:
            self._process = subprocess.Popen(
                argv, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        until(ready.exists, timeout_s=180, what=f"the runner is ready, see {self._home}/runner.log")

    def signal(self, signum: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(signum)
        self._process.wait(timeout=60)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.signal(signal.SIGKILL)


class Traces:
    """What the probe flow left."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def lines(self) -> list[str]:
        path = self.directory / "trace"
        return path.read_text().splitlines() if path.exists() else []

    def pids(self) -> list[int]:
        return [int(line.split()[1]) for line in self.lines() if line.startswith("start ")]

    def wait_for(self, line: str, *, timeout_s: float = 120) -> None:
        until(lambda: line in self.lines(), timeout_s=timeout_s, what=f"{line!r} in {self.lines()}")

    def go(self) -> None:
        (self.directory / "go").touch()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    server = PrefectServer(tmp_path_factory.mktemp("prefect"))
    with server.running():
        yield server


@pytest.fixture(scope="module")
def shared_runner(server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    runner = Runner(server, tmp_path_factory.mktemp("runner"))
    runner.start()
    yield runner
    runner.stop()


@pytest.fixture
def runner(shared_runner: Runner) -> Runner:
    if shared_runner._process is None or shared_runner._process.poll() is not None:
        shared_runner.start()
    return shared_runner


@pytest.fixture
def traces(tmp_path: Path) -> Traces:
    return Traces(tmp_path)


def start(server: PrefectServer, traces: Traces, **parameters: Any) -> str:
    return server.start_run(PROBE, {"directory": str(traces.directory), "nodes": ["a1-01"], **parameters})


def wait_state(server: PrefectServer, run: str, state: str, *, timeout_s: float = 120) -> None:
    try:
        until(lambda: server.state(run) == state, timeout_s=timeout_s, what=f"{run} is {state}")
    except AssertionError as error:
        error.add_note(f"it is {server.run(run)['state']}, attempts {server.run(run)['run_count']}")
        raise


def wait_process_gone(pid: int, *, timeout_s: float) -> None:
    until(lambda: identity_of(pid) is None, timeout_s=timeout_s, what=f"process {pid} is gone")


def test_the_run_form_shows_types_defaults_and_descriptions(server: PrefectServer, runner: Runner) -> None:
    deployment = server.deployment(PROBE)
    schema = deployment["parameter_openapi_schema"]
    properties = schema["properties"]
    assert schema["required"] == ["directory", "nodes"]
    assert properties["nodes"]["minItems"] == 1
    assert properties["nodes"]["description"] == "Names of the nodes."
    assert properties["firmware"]["default"] == "bios"
    assert schema["definitions"]["Firmware"]["enum"] == ["bios", "uefi"]
    assert schema["definitions"]["Limits"]["properties"]["nodes"]["description"] == "Nodes in parallel"
    assert schema["definitions"]["Limits"]["properties"]["nodes"]["maximum"] == 10
    assert deployment["work_pool_name"] == "levier"
    assert deployment["entrypoint"] == "tests.integration.probe_flow.probe"


@pytest.mark.parametrize(
    "wrong", [{"firmware": "coreboot"}, {"nodes": []}, {"nodes": 3}, {"limits": {"nodes": 11}}, {"unknown": 1}]
)
def test_wrong_parameters_are_refused_before_anything_runs(
    server: PrefectServer, runner: Runner, traces: Traces, wrong: dict[str, Any]
) -> None:
    body = {"parameters": {"directory": str(traces.directory), "nodes": ["a1-01"], **wrong}}
    deployment = server.deployment(PROBE)["id"]
    response = server.call("POST", f"/deployments/{deployment}/create_flow_run", body)
    assert response.status_code == 409, response.text
    assert traces.lines() == []


def test_a_run_starts_within_seconds_and_names_its_steps(server: PrefectServer, runner: Runner, traces: Traces) -> None:
    traces.go()
    begun = time.monotonic()
    run = start(server, traces)
    until(traces.pids, timeout_s=120, what="flow code runs")
    print(f"create_flow_run to first line of flow code: {time.monotonic() - begun:.2f} s")
    wait_state(server, run, "COMPLETED")
    assert traces.lines()[1:] == ["do first", "do wait", "do last", "end"]
    # Task runs are recorded from events, a little after the flow run ended.
    names = {"first a1-01", "wait a1-01", "last a1-01"}
    until(lambda: {t["name"] for t in server.task_runs(run)} == names, timeout_s=120, what="named task runs")


def test_a_killed_flow_process_is_resumed_under_the_same_run(
    server: PrefectServer, runner: Runner, traces: Traces
) -> None:
    run = start(server, traces)
    traces.wait_for("do wait")
    os.kill(traces.pids()[0], signal.SIGKILL)
    until(lambda: len(traces.pids()) == 2, timeout_s=120, what="a second attempt")
    traces.go()
    wait_state(server, run, "COMPLETED")
    assert traces.lines()[3:] == [f"start {traces.pids()[1]}", "skip first", "do wait", "do last", "end"]
    assert server.run(run)["run_count"] == 2


def test_a_killed_runner_takes_its_flows_along_and_the_next_one_resumes_them(
    server: PrefectServer, runner: Runner, traces: Traces
) -> None:
    run = start(server, traces)
    traces.wait_for("do wait")
    runner.signal(signal.SIGKILL)
    wait_process_gone(traces.pids()[0], timeout_s=120)
    assert server.state(run) == "RUNNING"
    runner.start()
    until(lambda: len(traces.pids()) == 2, timeout_s=120, what="a second attempt")
    traces.go()
    wait_state(server, run, "COMPLETED")
    assert traces.lines().count("do first") == 1


def test_a_stopped_runner_ends_at_once_and_its_runs_go_on_later(
    server: PrefectServer, runner: Runner, traces: Traces
) -> None:
    run = start(server, traces)
    traces.wait_for("do wait")
    runner.signal(signal.SIGTERM)
    wait_process_gone(traces.pids()[0], timeout_s=120)
    assert server.state(run) == "RUNNING"
    traces.go()
    runner.start()
    wait_state(server, run, "COMPLETED")
    assert "cancelled" not in traces.lines()


def let_another_run_pass(server: PrefectServer, traces: Traces) -> None:
    """Another run has gone from its start to its end: time enough for what must not happen."""
    other = Traces(traces.directory / "other")
    other.directory.mkdir()
    other.go()
    wait_state(server, start(server, other), "COMPLETED")


def test_cancelling_reaches_the_flow_and_is_not_taken_for_a_crash(
    server: PrefectServer, runner: Runner, traces: Traces
) -> None:
    run = start(server, traces)
    traces.wait_for("do wait")
    server.cancel(run)
    traces.wait_for("cancelled", timeout_s=120)
    wait_state(server, run, "CANCELLED", timeout_s=120)
    let_another_run_pass(server, traces)
    assert server.state(run) == "CANCELLED"
    assert len(traces.pids()) == 1


def test_a_run_cancelled_while_its_runner_is_dead_ends_cancelled(
    server: PrefectServer, runner: Runner, traces: Traces
) -> None:
    run = start(server, traces)
    traces.wait_for("do wait")
    runner.signal(signal.SIGKILL)
    server.cancel(run)
    runner.start()
    wait_state(server, run, "CANCELLED", timeout_s=120)
    assert len(traces.pids()) == 1


def test_retry_of_a_cancelled_run_goes_on_where_it_stopped(
    server: PrefectServer, runner: Runner, traces: Traces
) -> None:
    run = start(server, traces)
    traces.wait_for("do wait")
    server.cancel(run)
    wait_state(server, run, "CANCELLED", timeout_s=120)
    server.retry(run)
    until(lambda: len(traces.pids()) == 2, timeout_s=120, what="a second attempt")
    let_another_run_pass(server, traces)  # the old cancellation is not replayed to the new attempt
    traces.go()
    wait_state(server, run, "COMPLETED")
    assert traces.lines().count("do first") == 1
    assert server.run(run)["run_count"] == 2
