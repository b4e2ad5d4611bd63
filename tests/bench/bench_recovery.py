"""How long an operation stands still when the runner, or its own process, is killed; and what waiting for that costs.

From kill -9 until the step that was under way is begun again by another process. The machines are stubs, so that the
time is Levier's own; the flow stands at a gate (tests/integration/e2e/gated.py), so that every kill meets it there.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from levier.supervisor.lineage import identity_of, kill
from tests.integration.e2e.gated_installation import GatedInstallation
from tests.integration.e2e.installation import installed
from tests.integration.e2e.terminal import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(1800)]
KILLS = 6
GOAL_S = 10.0
"""For the runner."""
QUIET_S = 61.0
"""A runner that has run for a minute is started again after 0.5 s; one that dies sooner waits longer each time."""
GATES = ("power-off", "publish-boot-entry", "await-agent", "write-image")
IDLE_RUNS = 5
LOOKS = 200


@pytest.fixture(scope="module")
def levier() -> Iterator[GatedInstallation]:
    with installed(GatedInstallation) as installation:
        yield installation
        installation.opened()
        installation.come_to_rest()


def _pid(levier: GatedInstallation, name: str) -> int:
    record = json.loads((levier.state_dir / "run" / "supervisor.json").read_text())
    return int(record["processes"][name]["pid"])


def _kill_runner(levier: GatedInstallation, _flow: int) -> float:
    until(lambda: _age_s(_pid(levier, "runner")) > QUIET_S, what="the runner has run for a minute", every_s=1)
    identity = identity_of(_pid(levier, "runner"))
    assert identity is not None
    assert kill(identity, signal.SIGKILL)
    return time.monotonic()


def _age_s(pid: int) -> float:
    """Seconds since the process began (proc(5), stat, field 22, counts from the computer's start)."""
    began = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return float(Path("/proc/uptime").read_text().split()[0]) - began


def _kill_flow(_levier: GatedInstallation, flow: int) -> float:
    os.kill(flow, signal.SIGKILL)
    return time.monotonic()


def _standstills_s(
    levier: GatedInstallation, node: str, harm: Callable[[GatedInstallation, int], float], times: int
) -> list[float]:
    """Seconds from each harm to the next process at the same gate; a new operation before the attempts run out."""
    found: list[float] = []
    while len(found) < times:
        levier.shut({node: GATES[len(found) // 4 % len(GATES)]})
        levier.terminal.ok("expand", "--detach", node)
        pid = levier.at_gate(node)
        for _ in range(min(4, times - len(found))):
            since = harm(levier, pid)
            pid = levier.at_gate(node, other_than=pid)
            found.append(time.monotonic() - since)
        levier.opened()
        operation = levier.ended(levier.newest_operation()["id"])
        assert operation["state"] == "succeeded", operation["error"]
        levier.terminal.ok("rollback", operation["id"])
    return found


def _row(name: str, values: list[float]) -> tuple[str, str, str, str]:
    return name, str(len(values)), f"{statistics.median(values):.1f}", f"{max(values):.1f}"


def test_from_the_kill_to_the_next_step(levier: GatedInstallation) -> None:
    node = levier.machine_names[0]
    table = Table(title="from the harm to the same step begun again, seconds")
    for column in ("harm", "times", "median", "max"):
        table.add_column(column)
    runner = _standstills_s(levier, node, _kill_runner, KILLS)
    table.add_row(*_row("kill -9 of the runner", runner))
    table.add_row(*_row("kill -9 of the flow's process", _standstills_s(levier, node, _kill_flow, 4)))
    Console(width=100).print(table)
    print(f"goal for the runner: {GOAL_S:g} s; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    assert len(runner) == KILLS


def _cpu_s(pid: int) -> float:
    """Processor seconds of the process and of the children it has waited for (proc(5), stat, fields 14-17)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(fields[i]) for i in (11, 12, 13, 14)) / os.sysconf("SC_CLK_TCK")


def test_what_waiting_for_nothing_costs(levier: GatedInstallation) -> None:
    """A `recover` flow run without anything to do, against the look that the runner takes every ten seconds."""
    pid = _pid(levier, "runner")
    deployment = levier.prefect.get("/deployments/name/recover/recover").raise_for_status().json()["id"]
    before = _cpu_s(pid)
    for _ in range(IDLE_RUNS):
        run = levier.prefect.post(f"/deployments/{deployment}/create_flow_run", json={}).raise_for_status().json()["id"]
        until(lambda run=run: levier.prefect_run(run)["state"]["type"] == "COMPLETED", what="it ran")  # type: ignore[misc]
    run_s = (_cpu_s(pid) - before) / IDLE_RUNS
    api = _pid(levier, "api")
    before = _cpu_s(api)
    for _ in range(LOOKS):
        assert levier.get("/operations/recover") == []
    look_ms = (_cpu_s(api) - before) / LOOKS * 1000
    print(f"\na recover flow run with nothing to do: {run_s:.2f} s of processor time")
    print(f"a look (over the REST API): {look_ms:.1f} ms of processor time")
    assert run_s > 0
