"""Operations that get stuck, and what a person can do about them: resume, skip, abandon; each told in the audit."""

from __future__ import annotations

import getpass
import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from levier.lab.sitefile import CREDENTIAL
from tests.integration.e2e.installation import Installation, Site
from tests.integration.e2e.terminal import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(1800)]
NODE = "a1-01"
ME = f"{getpass.getuser()}@{socket.gethostname()}"


def credentials(levier: Installation) -> dict[str, str]:
    """User name and password of every BMC of the lab."""
    status = levier.terminal.json("lab", "status", "--name", levier.lab)
    known: dict[str, dict[str, str]] = json.loads(Path(status["credentials_file"]).read_text())
    return known[CREDENTIAL]


def set_password(levier: Installation, password: str) -> None:
    """What Levier believes the BMCs' password to be."""
    values = {**credentials(levier), "password": password}
    levier.terminal.ok("secret", "set", CREDENTIAL, "--stdin-json", stdin=json.dumps(values))


def repair(levier: Installation) -> None:
    """Levier has the right password again."""
    set_password(levier, credentials(levier)["password"])


@pytest.fixture
def stuck(levier: Installation) -> Iterator[str]:
    """An expand that succeeded and whose rollback cannot switch the machine off; its id."""
    levier.terminal.ok("expand", NODE)
    identity = str(levier.newest_operation()["id"])
    set_password(levier, "not-this-one")
    try:
        answer = levier.terminal.run("rollback", identity, "--reason", "wrong image")
        assert answer.status == 1
        assert f"Operation {identity}: needs_operator" in answer.out
        assert levier.operation(identity)["stands"][-1] == f"power-on {NODE}", "undone down to what needs the BMC"
        yield identity
    finally:
        repair(levier)


def decisions(levier: Installation, identity: str) -> list[tuple[str, str, str]]:
    """What was decided about the operation, by whom and why, as `levier operation audit` has it."""
    rows = levier.terminal.json("operation", "audit", identity)
    followed = {"state", "take-over"}
    return [(r["what"], r["who"], r["why"]) for r in rows if r["what"] not in followed]


def test_a_resumed_unwinding_goes_on_once_the_cause_is_repaired(levier: Installation, stuck: str) -> None:
    for verb in ("skip", "abandon"):
        arguments = ("power-on",) if verb == "skip" else ()
        refused = levier.terminal.run("operation", verb, stuck, *arguments, "--reason", "  ")
        assert refused.status == 1
        assert f"{verb} needs a reason" in refused.err
    refused = levier.terminal.run("operation", "cancel", stuck)
    assert refused.status == 1
    assert f"operation {stuck} is needs_operator: there is nothing to cancel" in refused.err
    assert f"levier operation resume|skip|abandon {stuck}" in refused.err
    assert levier.nodes()[NODE]["operation"] == stuck, "the node stays held"

    levier.terminal.run("operation", "resume", stuck)
    assert levier.operation(stuck)["state"] == "needs_operator", "nothing was repaired"
    repair(levier)
    answer = levier.terminal.run("operation", "resume", stuck, "--reason", "password put right")
    assert answer.status == 0, answer.text
    assert f"Operation {stuck} goes on with its unwinding." in answer.out
    operation = levier.operation(stuck)
    assert (operation["state"], operation["stands"]) == ("rolled_back", [])
    assert levier.machines()[NODE]["power"] == "off"
    assert levier.traces(NODE) == []
    assert decisions(levier, stuck) == [
        ("order", ME, ""),
        ("rollback", ME, "wrong image"),
        ("resume", ME, ""),
        ("resume", ME, "password put right"),
    ]


def switch_off_by_hand(levier: Installation) -> None:
    """What whoever was sent to the machine does there, with a tool of his own."""
    known, bmc = credentials(levier), next(n for n in levier.site["nodes"] if n["name"] == NODE)["bmc"]
    password = levier.directory / "bmc-password"
    password.write_text(known["password"])
    where = ["-H", bmc["address"], "-p", str(bmc["port"]), "-U", known["username"], "-f", str(password)]
    inside = ["ip", "netns", "exec", f"levier-{levier.lab}", "ipmitool", "-I", "lanplus", "-C", "17"]
    off = [*inside, *where, "chassis", "power", "off"]
    subprocess.run(off, check=True, capture_output=True, timeout=60)
    until(lambda: levier.machines()[NODE]["power"] == "off", what=f"{NODE} is off")


def test_what_is_given_up_stands_and_an_abandoned_node_is_set_aside(levier: Installation, stuck: str) -> None:
    answer = levier.terminal.ok("operation", "skip", stuck, "power-on", "--reason", "nobody has the password")
    assert f"Skipped power-on on {NODE}: its undo is given up, it stands." in answer
    assert f"is still needs_operator; `levier operation resume {stuck}` goes on with its unwinding." in answer
    answer = levier.terminal.ok("operation", "abandon", stuck, "--reason", "the machine is scrap")
    assert f"Operation {stuck}: cancelled" in answer
    assert "nobody looks after what stands: " in answer
    operation = levier.operation(stuck)
    assert operation["error"] == f"abandoned by {ME}: the machine is scrap"
    assert f"power-on {NODE}" in operation["stands"]
    node = levier.nodes()[NODE]
    assert (node["state"], node["operation"]) == ("deploying", None), "its state is not pretended"
    assert node["fault"].startswith(f"{stuck} was abandoned by {ME}: the machine is scrap; stands: ")
    assert levier.machines()[NODE]["power"] == "on", "nobody touched it"

    mark = levier.mark()
    refused = levier.terminal.run("expand", NODE)
    assert refused.status == 1
    assert f"node {NODE} is set aside (fault: {stuck} was abandoned" in refused.err
    assert f"levier node clear-fault {NODE} --reason" in refused.err
    refused = levier.terminal.run("node", "clear-fault", NODE, "--reason", " ")
    assert "clear-fault needs a reason" in refused.err
    for verb in (("operation", "resume"), ("rollback",)):
        refused = levier.terminal.run(*verb, stuck)
        assert refused.status == 1
        assert "it is over: start another one" in refused.err
    assert not mark.page().touches()

    switch_off_by_hand(levier)
    repair(levier)
    cleared = levier.terminal.ok("node", "clear-fault", NODE, "--reason", "password found")
    assert f"Node {NODE} has no fault; it is enrolled." in cleared
    assert levier.traces(NODE) == []
    levier.terminal.ok("expand", NODE)
    assert levier.nodes()[NODE]["state"] == "ready"
    assert decisions(levier, stuck)[1:] == [
        ("rollback", ME, "wrong image"),
        ("skip", ME, "nobody has the password"),
        ("abandon", ME, "the machine is scrap"),
        ("clear-fault", ME, "password found"),
    ]


def test_a_held_operation_goes_forward_when_resumed(levier: Installation) -> None:
    """Two nodes; the BMC of one refuses its password: held, with the other one ready."""
    known = credentials(levier)
    levier.apply(levier.changed(own_credential))
    own = ("secret", "set", "own-bmc", "--stdin-json")
    levier.terminal.ok(*own, stdin=json.dumps({**known, "password": "not-this-one"}))
    answer = levier.terminal.run("expand", NODE, "b1-01")
    assert answer.status == 1
    operation = levier.newest_operation()
    assert operation["state"] == "held", operation["error"]
    assert operation["outcomes"]["b1-01"] == "ready"
    refused = levier.terminal.run(
        "operation", "skip", operation["id"], "match-site", "--node", NODE, "--reason", "I know"
    )
    assert "only what failed can be skipped" in refused.err
    levier.terminal.ok(*own, stdin=json.dumps(known))
    answer = levier.terminal.run("operation", "resume", operation["id"], "--reason", "password put right")
    assert answer.status == 0, answer.text
    assert f"Operation {operation['id']} goes on forward." in answer.out
    assert levier.operation(operation["id"])["outcomes"] == {NODE: "ready", "b1-01": "ready"}


def own_credential(site: Site) -> None:
    """The node's BMC has a password of its own."""
    next(n for n in site["nodes"] if n["name"] == NODE)["bmc"]["credential"] = "own-bmc"
