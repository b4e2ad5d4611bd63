"""Whatever is interrupted goes on where it was, or is undone: terminals, runners and whole installations that die."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from levier.supervisor.lineage import ProcessIdentity, identity_of, is_alive, kill, marked, wait_gone
from tests.integration.e2e.installation import Installation
from tests.integration.e2e.terminal import until
from tests.rig.pausing import paused_outside_a_transaction

pytestmark = [pytest.mark.root, pytest.mark.timeout(1800)]


def ordered(levier: Installation, *nodes: str) -> str:
    """The id of an expand of `nodes` that goes on in the background."""
    return str(levier.terminal.json("expand", "--detach", *nodes)["id"])


def record(levier: Installation) -> dict[str, Any]:
    """The supervisor's own record of what runs."""
    found: dict[str, Any] = json.loads((levier.state_dir / "run" / "supervisor.json").read_text())
    return found


def kill_runner(levier: Installation) -> int:
    """The runner is gone by kill -9; its pid."""
    pid = int(record(levier)["processes"]["runner"]["pid"])
    identity = identity_of(pid)
    assert identity is not None
    assert kill(identity, signal.SIGKILL)
    assert not wait_gone([identity], timeout_s=10)
    return pid


@contextmanager
def stopped(levier: Installation, process: str) -> Iterator[None]:
    """The process stands still, and not in a transaction, which would keep all others out of the database."""
    pid = int(record(levier)["processes"][process]["pid"])
    identity = identity_of(pid)
    assert identity is not None
    database = levier.state_dir / "levier.db"
    until(lambda: paused_outside_a_transaction(pid, database), what=f"{process} is stopped", every_s=0.01)
    try:
        yield
    finally:
        kill(identity, signal.SIGCONT)


def expect_one_deployment(levier: Installation, operation: dict[str, Any], page: Any, *nodes: str) -> None:
    """The operation succeeded, and the machines saw one uninterrupted deployment each."""
    assert operation["state"] == "succeeded", operation["error"]
    machines, known = levier.machines(), levier.nodes()
    for node in nodes:
        assert page.of(node).image_writes() == 1
        assert page.of(node).powered_on() == 1
        assert page.of(node).booted_from() == ["pxe", "disk"]
        assert (machines[node]["power"], known[node]["state"]) == ("on", "ready")


def test_ctrl_c_detaches_and_the_operation_goes_on(levier: Installation) -> None:
    mark, earlier = levier.mark(), {o["id"] for o in levier.get("/operations")}
    job = levier.terminal.begin("expand", "a1-01")

    def begun() -> str | None:
        assert job.poll() is None, job.communicate()
        return next((o["id"] for o in levier.get("/operations") if o["id"] not in earlier), None)

    identity = until(begun, what="there is an operation")
    levier.reached(identity, "verify-bmc", "a1-01", {"succeeded"})
    answer = levier.terminal.ctrl_c(job)
    assert answer.status == 130
    assert f"Detached: operation {identity} goes on" in answer.out
    for verb in ("watch", "cancel", "resume"):
        assert f"levier operation {verb} {identity}" in answer.out

    held = levier.terminal.run("expand", "a1-01")
    assert held.status == 1, "the node is leased by the operation in the background"
    assert f"node a1-01 is held by operation {identity}" in held.err
    assert "way out:" in held.err
    assert levier.nodes()["a1-01"]["operation"] == identity

    watched = levier.terminal.run("operation", "watch", identity)
    assert (watched.status, f"Operation {identity}: succeeded" in watched.out) == (0, True), watched.text
    expect_one_deployment(levier, levier.operation(identity), mark.page(), "a1-01")
    assert len([o for o in levier.get("/operations") if o["targets"] == ["a1-01"] and o["state"] == "running"]) == 0


def test_cancelling_a_write_undoes_it_and_names_the_safe_state(levier: Installation) -> None:
    mark = levier.mark()
    # The machine stops in the middle of its write, so that the image is not all there before the request is in.
    levier.terminal.ok("lab", "inject", "a1-02", "ramdisk-hangs", "--stage", "write", "--name", levier.lab)
    identity = ordered(levier, "a1-02")
    levier.reached(identity, "write-image", "a1-02", {"running"})
    job = levier.terminal.begin("operation", "cancel", identity)
    answer = levier.terminal.ended(job)
    assert answer.status == 0, answer.text
    assert f"Operation {identity}: cancelled" in answer.out
    assert "safe state: a1-02: power off, as before, no boot entry, no address held (seen " in answer.out
    operation = levier.operation(identity)
    assert (operation["state"], operation["stands"]) == ("cancelled", [])
    assert levier.machines()["a1-02"]["power"] == "off"
    assert levier.traces("a1-02") == []
    assert levier.nodes()["a1-02"]["state"] == "enrolled"
    assert mark.page().of("a1-02").booted_from() == ["pxe"], "the host never ran"
    assert mark.page().of("a1-02").kind("power")[-1]["detail"]["to"] == "off"
    again = levier.terminal.run("operation", "resume", identity)
    assert again.status == 1
    assert "there is nothing to resume" in again.err
    levier.terminal.ok("lab", "heal", "a1-02", "--name", levier.lab)


def test_a_runner_killed_at_any_moment_goes_on_at_the_exact_step(levier: Installation) -> None:
    """kill -9 four times in one operation: each time another moment, each time the same operation goes on."""
    mark, node = levier.mark(), "b1-01"
    identity = ordered(levier, node)
    moments = (
        ("power-on", {"running", "succeeded"}),
        ("write-image", {"running", "succeeded"}),
        ("write-image", {"succeeded"}),
        ("apply-baseline", {"running", "succeeded"}),
    )
    killed, outputs = [], {}
    for step, states in moments:
        levier.reached(identity, step, node, states)
        killed.append(kill_runner(levier))
        outputs[step] = levier.steps(identity)[(step, node)]
    assert len(set(killed)) == len(moments), "each time another runner"
    operation = levier.ended(identity)
    expect_one_deployment(levier, operation, mark.page(), node)
    steps = {s["step"]: s for s in operation["steps"]}
    assert steps["write-image"]["started"] == outputs["write-image"]["started"], "a verified image is not begun again"
    assert steps["write-image"]["attempts"] <= 2
    assert {s["state"] for s in operation["steps"]} == {"succeeded"}
    again = {name: s["attempts"] for name, s in steps.items() if s["attempts"] > 1}
    assert set(again) <= {"power-on", "await-agent", "write-image", "boot-host", "apply-baseline", "verify-host"}
    assert levier.prefect_run(operation["ui"].rpartition("/")[2])["state"]["type"] == "COMPLETED"


def test_everything_killed_at_once_resumes_with_the_next_up(levier: Installation) -> None:
    mark, node = levier.mark(), "b1-02"
    identity = ordered(levier, node)
    levier.reached(identity, "write-image", node, {"running", "succeeded"})
    victims = kill_everything(levier)
    assert len(victims) > 6, "supervisor, six processes and the flow's own"
    refused = levier.terminal.run("node", "list")
    assert refused.status == 1
    assert "does not answer" in refused.err
    assert "levier up" in refused.err
    levier.up()
    operation = levier.ended(identity)
    expect_one_deployment(levier, operation, mark.page(), node)


def kill_everything(levier: Installation) -> list[ProcessIdentity]:
    """Nothing of the installation runs: the supervisor first, then whatever it had started, all by kill -9."""
    known = record(levier)
    supervisor = identity_of(int(known["supervisor_pid"]))
    assert supervisor is not None
    victims = [supervisor, *(each for each in marked(str(known["mark"])) if each != supervisor)]
    for victim in victims:
        kill(victim, signal.SIGKILL)
    assert not wait_gone(victims, timeout_s=10)
    assert not [each for each in marked(str(known["mark"])) if is_alive(each)]
    assert not os.path.exists(f"/proc/{supervisor.pid}/exe")
    return victims


def test_cancelling_in_the_prefect_ui_undoes_the_operation(levier: Installation) -> None:
    mark, node = levier.mark(), "a1-01"
    identity = ordered(levier, node)
    levier.reached(identity, "await-agent", node, {"running", "succeeded"})
    flow_run = levier.operation(identity)["ui"].rpartition("/")[2]
    # The very request of the UI's Cancel button.
    body = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
    answer = levier.prefect.post(f"/flow_runs/{flow_run}/set_state", json=body).raise_for_status().json()
    assert answer["status"] == "ACCEPT"
    until(lambda: levier.prefect_run(flow_run)["state"]["type"] == "CANCELLED", what="the flow run is cancelled")
    levier.terminal.ok("recover")
    operation = levier.ended(identity)
    assert operation["state"] in {"cancelled", "rolled_back"}
    assert operation["stands"] == []
    assert levier.machines()[node]["power"] == "off"
    assert levier.traces(node) == []
    assert levier.nodes()[node]["state"] == "enrolled"
    assert mark.page().of(node).kind("power")[-1]["detail"]["to"] == "off"
