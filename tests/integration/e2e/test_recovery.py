"""Operations and their flow runs are brought together again by Levier itself, or the reason is named."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from levier import __version__
from levier.saga.recovery import MAX_TAKEOVERS
from tests.integration.e2e.gated_installation import GatedInstallation
from tests.integration.e2e.terminal import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(1200)]
AGREED_S = 60.0
"""One recovery interval, within which an operation and its flow run may disagree."""
GATE = "create-host-key"


def at_the_gate(gated: GatedInstallation) -> tuple[str, str, int]:
    """An expand that stands still in the middle: its id, its flow run, the pid of its process."""
    node = gated.machine_names[0]
    gated.shut({node: GATE})
    identity = str(gated.terminal.json("expand", "--detach", node)["id"])
    pid = gated.at_gate(node)
    return identity, gated.operation(identity)["ui"].rpartition("/")[2], pid


def test_a_run_that_crashes_under_its_operation_is_taken_up_again(gated: GatedInstallation) -> None:
    """Somebody ends the flow's process with a plain `kill`: Prefect reports a crash, and nobody resumes by hand."""
    identity, flow_run, pid = at_the_gate(gated)
    os.kill(pid, signal.SIGTERM)
    until(lambda: gated.prefect_run(flow_run)["state"]["type"] != "RUNNING", what="Prefect knows", every_s=0.02)
    disagreed = time.monotonic()
    until(lambda: takeovers(gated, identity) > 1, what="another worker went on", every_s=0.3)
    assert time.monotonic() - disagreed < AGREED_S
    gated.opened()
    operation = gated.ended(identity)
    assert operation["state"] == "succeeded", operation["error"]
    assert [s["attempts"] for s in operation["steps"] if s["step"] == GATE] == [1], "its step was let end before"


def takeovers(gated: GatedInstallation, identity: str) -> int:
    return sum(1 for row in gated.get(f"/operations/{identity}/audit") if row["what"] == "take-over")


def audit(gated: GatedInstallation, identity: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = gated.terminal.json("operation", "audit", identity)
    return rows


def test_an_operation_that_never_gets_on_is_given_to_an_operator(gated: GatedInstallation) -> None:
    """Its process dies at the same step again and again: after the cap nobody goes on by himself."""
    identity, _, pid = at_the_gate(gated)
    node = gated.machine_names[0]
    for _ in range(MAX_TAKEOVERS):
        gated.kill_flow(pid)
        pid = gated.at_gate(node, other_than=pid)
    gated.kill_flow(pid)
    operation = gated.ended(identity)
    assert operation["state"] == "needs_operator"
    assert operation["error"] == f"taken up {MAX_TAKEOVERS} times without progress"
    assert gated.nodes()[node]["operation"] == identity, "the node stays held"
    gated.opened()
    answer = gated.terminal.run("operation", "resume", identity, "--reason", "the cause is repaired")
    assert (answer.status, f"Operation {identity} goes on forward." in answer.out) == (0, True), answer.text
    assert gated.operation(identity)["state"] == "succeeded"


@contextmanager
def begun_by(gated: GatedInstallation, identity: str, version: str) -> Iterator[None]:
    """The operation as if that version of Levier had begun it."""

    def write(value: str) -> None:
        with closing(sqlite3.connect(gated.state_dir / "levier.db", timeout=30)) as database, database:
            database.execute("UPDATE operation SET code_version = ? WHERE id = ?", (value, identity))

    write(version)
    try:
        yield
    finally:
        write(__version__)


def test_what_another_version_began_is_left_alone_with_the_way_out(gated: GatedInstallation) -> None:
    identity, flow_run, pid = at_the_gate(gated)
    with begun_by(gated, identity, "0.0.7"):
        gated.kill_flow(pid)
        until(lambda: gated.prefect_run(flow_run)["state"]["type"] == "FAILED", what="the run was refused")
        runs = number_of_runs(gated)
        (planned,) = gated.terminal.json("recover", "--dry-run")
        assert (planned["operation"], planned["verb"], planned["flow_run"]) == (
            identity,
            "refuse-incompatible",
            flow_run,
        )
        assert planned["reason"] == f"begun by Levier 0.0.7, this is {__version__}: finish it with 0.0.7"
        assert "refuse-incompatible" in gated.terminal.ok("recover", "--dry-run")
        assert number_of_runs(gated) == runs, "looking starts nothing"
        (done,) = gated.terminal.json("recover")
        assert (done["verb"], done["done"]) == ("refuse-incompatible", "nothing")
        shown = gated.terminal.ok("operation", "show", identity)
        assert f"operation {identity} was begun by Levier 0.0.7; this is {__version__}" in shown
        assert "finish it with Levier 0.0.7" in shown
        assert gated.operation(identity)["state"] == "running", "nobody touched it"
    gated.opened()
    assert gated.ended(identity)["state"] == "succeeded", "the right version goes on by itself"
    recovered = [(r["who"], r["why"], r["detail"]) for r in audit(gated, identity) if r["what"] == "recover"]
    assert recovered == [("recovery", "it is running, but its flow run is failed", "action resume")]


def number_of_runs(gated: GatedInstallation) -> int:
    """How many flow runs Prefect knows that no schedule made."""
    found = gated.prefect.post("/flow_runs/filter", json={"limit": 200}).raise_for_status().json()
    return sum(1 for run in found if not run["auto_scheduled"])


def test_a_recovery_with_nothing_to_do_says_so(gated: GatedInstallation) -> None:
    gated.opened()
    assert "there is nothing to recover" in gated.terminal.ok("recover", "--dry-run")
    assert gated.terminal.json("recover") == []
