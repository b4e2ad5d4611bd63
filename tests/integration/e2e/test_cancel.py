"""Cancelled at every step of expand and inspect, by the command line, by the REST API and in Prefect's UI."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from levier.services.steps.sequences import EXPAND, INSPECT
from tests.integration.e2e.gated_installation import GatedInstallation
from tests.integration.e2e.ledger import Page
from tests.integration.e2e.terminal import until
from tests.integration.e2e.test_interruptions import stopped

pytestmark = [pytest.mark.root, pytest.mark.timeout(1200)]
STEPS = {"expand": [s.name for s in EXPAND], "inspect": [s.name for s in INSPECT]}
TOUCHING = {"power-off", "set-boot-device", "power-on", "restore-power"}
NOTICED_S = 60.0
"""For a wait to notice that it is cancelled: it looks every half second, and would wait a quarter of an hour."""
AGREED_S = 60.0
"""One recovery interval, within which an operation and its flow run may disagree."""


def by_command(gated: GatedInstallation, identity: str) -> str:
    """`levier operation cancel`, which waits for the end; what it printed."""
    job = gated.terminal.begin("operation", "cancel", identity, "--reason", "wrong rack")
    until(lambda: gated.get(f"/operations/{identity}")["cancel_requested"], what="the request is in")
    gated.opened()
    answer = gated.terminal.ended(job)
    assert answer.status == 0, answer.text
    return answer.out


def by_api(gated: GatedInstallation, identity: str) -> str:
    """The route that any program may call."""
    with gated.api() as api:
        headers, why = {"X-Levier-User": "robot@ci"}, {"reason": "wrong rack"}
        answer = api.post(f"/operations/{identity}/cancel", headers=headers, json=why)
    assert answer.status_code == 202, answer.text
    gated.opened()
    return ""


def in_prefect(gated: GatedInstallation, identity: str) -> str:
    """The very request of the UI's Cancel button. Nobody starts a recovery."""
    flow_run = gated.operation(identity)["ui"].rpartition("/")[2]
    body = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
    answer = gated.prefect.post(f"/flow_runs/{flow_run}/set_state", json=body).raise_for_status().json()
    assert answer["status"] == "ACCEPT"
    until(lambda: gated.prefect_run(flow_run)["state"]["type"] == "CANCELLED", what="the flow run is cancelled")
    cancelled = time.monotonic()
    until(lambda: gated.get(f"/operations/{identity}")["state"] == "cancelled", what="so is the operation")
    assert time.monotonic() - cancelled < AGREED_S
    return ""


WAYS: dict[str, Callable[[GatedInstallation, str], str]] = {"cli": by_command, "api": by_api, "prefect": in_prefect}
WHO = {"cli": "@", "api": "robot@ci", "prefect": "Prefect"}


@pytest.mark.parametrize(("kind", "way"), [("expand", "cli"), ("expand", "prefect"), ("inspect", "api")])
def test_cancelled_at_every_step(gated: GatedInstallation, kind: str, way: str) -> None:
    """One node stands at each step when the request comes: no step after it begins, and all of it is undone."""
    steps, mark = STEPS[kind], gated.mark()
    at = dict(zip(gated.machine_names, steps, strict=False))
    gated.shut(at)
    identity = str(gated.terminal.json(kind, "--detach", *at)["id"])
    gated.at_gate(*at)
    printed = WAYS[way](gated, identity)
    operation = gated.ended(identity)
    assert (operation["state"], operation["stands"]) == ("cancelled", []), operation["error"]
    page, machines, nodes = mark.page(), gated.machines(), gated.nodes()
    for node, step in at.items():
        expect_stopped(operation, node, step, steps)
        expect_safe(operation, node, steps[: steps.index(step) + 1])
        assert re.search(rf"\b{node}[,:] ", operation["safe_state"]), "each node is named, alone or with its like"
        assert machines[node]["power"] == "off"
        assert nodes[node]["state"] == "enrolled"
        expect_written_before(page.of(node), step, steps)
    assert gated.traces(*at) == []
    assert not printed or "safe state: " in printed
    audit = [r for r in gated.terminal.json("operation", "audit", identity) if r["what"] == "cancel"]
    assert len(audit) == 1
    assert WHO[way] in audit[0]["who"]
    again = gated.terminal.run("operation", "cancel", identity)
    assert (again.status, f"Operation {identity}: cancelled" in again.out) == (0, True), "safe to repeat"


def expect_stopped(operation: dict[str, Any], node: str, step: str, steps: Sequence[str]) -> None:
    """No step of the node after the one it stood at was begun."""
    own = {s["step"]: s for s in operation["steps"] if s["target"] == node}
    later = steps[steps.index(step) + 1 :]
    assert {own[name]["state"] for name in later} <= {"pending"}, f"{node} was cancelled at {step}"


def expect_safe(operation: dict[str, Any], node: str, begun: Sequence[str]) -> None:
    """What is said of the node was seen on it, wherever a machine may have been touched."""
    seen = operation["observed"].get(node)
    if not TOUCHING & set(begun):
        assert seen is None or "power" not in seen, "a machine that nobody touched is not asked again"
        return
    assert (seen["power"], seen["power_before"], seen["problems"]) == ("off", "off", [])
    assert seen["address"] is None
    assert seen.get("boot_entry", False) is False


def expect_written_before(page: Page, step: str, steps: Sequence[str]) -> None:
    """The ledger agrees: nothing was written unless the writing had begun, and power went off last."""
    if "write-image" not in steps or steps.index(step) < steps.index("write-image"):
        assert page.image_writes() == 0
    power = [e["detail"]["to"] for e in page.kind("power")]
    assert not power or power[-1] == "off"


def test_a_wait_notices_a_cancellation_at_once(gated: GatedInstallation) -> None:
    node = gated.machine_names[0]
    gated.shut({})
    with stopped(gated, "boot"):  # nobody answers the machine: it would be waited for during half an hour
        identity = str(gated.terminal.json("expand", "--detach", node)["id"])
        gated.reached(identity, "await-agent", node, {"running"})
        requested = time.monotonic()
        by_api(gated, identity)
        gated.reached(identity, "await-agent", node, {"failed"})
        noticed_s = time.monotonic() - requested
    assert noticed_s < NOTICED_S
    operation = gated.ended(identity)
    assert operation["state"] == "cancelled"
    step = next(s for s in operation["steps"] if s["step"] == "await-agent")
    assert step["error"] == f"Cancelled: operation {identity} was cancelled"


def test_cancelled_before_it_began(gated: GatedInstallation) -> None:
    """The flow run is cancelled in Prefect before any worker took it: the operation follows, untouched."""
    node = gated.machine_names[0]
    mark = gated.mark()
    with stopped(gated, "runner"):
        identity = str(gated.terminal.json("expand", "--detach", node)["id"])
        flow_run = gated.operation(identity)["ui"].rpartition("/")[2]
        body = {"state": {"type": "CANCELLED", "name": "Cancelled"}}
        gated.prefect.post(f"/flow_runs/{flow_run}/set_state", json=body).raise_for_status()
    operation = gated.ended(identity)
    assert (operation["state"], operation["safe_state"]) == ("cancelled", "nothing was done")
    assert not mark.page().touches()
