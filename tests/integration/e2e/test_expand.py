"""Powered-off machines become verified SSH hosts, and are taken back: the main job, against the lab's ledger."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from drivers.packages import open_packages
from drivers.ssh import open_host
from levier.domain.package_sources import PackageSources
from levier.domain.ssh import RemoteHost, SshTarget
from tests.integration.e2e.installation import IMAGE, Installation
from tests.integration.e2e.ledger import Mark
from tests.lab.namespaces import connected
from tests.rig.wire import Wire

pytestmark = [pytest.mark.root, pytest.mark.timeout(1800)]
DEPLOYED = ("a1-01", "a1-02", "b1-01")


@dataclass(frozen=True, slots=True)
class Expanded:
    """Three machines that `levier expand` made hosts of."""

    levier: Installation
    operation: dict[str, Any]
    nodes: dict[str, dict[str, Any]]
    mark: Mark


@pytest.fixture(scope="module")
def expanded(installation: Installation) -> Iterator[Expanded]:
    mark = installation.mark()
    operation = installation.terminal.json("expand", *DEPLOYED)
    yield Expanded(installation, operation, installation.nodes(), mark)
    installation.come_to_rest()


def test_every_node_is_ready_and_described(expanded: Expanded) -> None:
    revision, machines = expanded.operation["revision"], expanded.levier.machines()
    for name in DEPLOYED:
        node, machine = expanded.nodes[name], machines[name]
        assert node["state"] == "ready"
        assert node["zone"] == machine["zone"] == name[0]
        assert node["serial"] == machine["serial"]
        assert node["os"].startswith("Debian GNU/Linux 12")
        assert node["revision"] == revision
        assert node["operation"] is None, "the lease is released with the operation's success"
        assert machine["address"] == node["address"], "the address that the machine itself uses on the wire"
    assert len({expanded.nodes[name]["address"] for name in DEPLOYED}) == len(DEPLOYED)
    untouched = expanded.nodes["b1-02"]
    assert (untouched["state"], untouched["address"], untouched["os"]) == ("enrolled", None, None)


def test_the_operation_tells_every_step(expanded: Expanded) -> None:
    operation = expanded.levier.operation(expanded.operation["id"])
    assert (operation["kind"], operation["state"], operation["error"]) == ("expand", "succeeded", None)
    assert operation["created"] <= operation["started"] < operation["finished"]
    assert operation["outcomes"] == dict.fromkeys(DEPLOYED, "ready")
    assert {s["target"] for s in operation["steps"]} == set(DEPLOYED)
    assert len(operation["steps"]) == len({(s["step"], s["target"]) for s in operation["steps"]})
    for step in operation["steps"]:
        assert (step["state"], step["undo"], step["error"]) == ("succeeded", "none", None), step
        assert step["attempts"] == 1
        assert step["duration_s"] >= 0
    seconds = {s["step"]: s["duration_s"] for s in operation["steps"] if s["target"] == DEPLOYED[0]}
    assert seconds["write-image"] > 0.5
    assert seconds["boot-host"] > 0.5
    listed = {o["id"]: o for o in expanded.levier.terminal.json("operation", "list")}
    assert listed[operation["id"]]["state"] == "succeeded"


def test_the_ledger_bears_it_out(expanded: Expanded) -> None:
    page, machines = expanded.mark.page(), expanded.levier.machines()
    for name in DEPLOYED:
        of_node, machine = page.of(name), machines[name]
        assert of_node.powered_on() == 1
        assert of_node.booted_from() == ["pxe", "disk"]
        assert of_node.image_writes() == 1
        assert len(of_node.kind("os-start")) == 1
        assert not of_node.kind("bmc-auth-failed")
        assert of_node.commands().count("Set System Boot Options") >= 1
        assert (machine["power"], machine["booted_from"], machine["boot_device"]) == ("on", "disk", "none")
    assert not page.of("b1-02").events, "a machine that was not named was not even spoken to"


def test_boot_entries_are_gone_once_the_hosts_run(expanded: Expanded) -> None:
    assert expanded.levier.terminal.json("boot-entry", "list") == []
    taken = {(a["node"], a["address"]) for a in expanded.levier.terminal.json("address", "list")}
    assert taken == {(name, expanded.nodes[name]["address"]) for name in DEPLOYED}


def ssh(levier: Installation, node: str, *command: str, host_key: str) -> subprocess.CompletedProcess[str]:
    """The system's own client with the operator's own key, from inside the rack's network."""
    address = levier.get(f"/nodes/{node}")["address"]
    known = levier.directory / f"known-hosts-{node}"
    known.write_text(f"{address} {host_key}\n")
    options = [
        f"UserKnownHostsFile={known}",
        "GlobalKnownHostsFile=/dev/null",
        "StrictHostKeyChecking=yes",
        "BatchMode=yes",
        "IdentitiesOnly=yes",
        f"IdentityFile={levier.key}",
        "ConnectTimeout=20",
    ]
    argv = ["nsenter", f"--net=/run/netns/levier-{levier.lab}", "ssh", "-F", "/dev/null"]
    argv += [part for option in options for part in ("-o", option)]
    argv += [f"root@{address}", *command]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("node", DEPLOYED)
def test_the_operator_logs_in_with_the_host_key_that_levier_reports(expanded: Expanded, node: str) -> None:
    shown = expanded.levier.terminal.json("node", "show", node)
    assert re.fullmatch(r"ssh-ed25519 \S+( \S+)?", shown["host_key"])
    told = ssh(expanded.levier, node, "hostname; cat /etc/machine-id /etc/levier/revision", host_key=shown["host_key"])
    assert told.returncode == 0, told.stderr
    hostname, machine_id, revision = told.stdout.splitlines()
    assert hostname == node
    assert machine_id == shown["facts"]["machine_id"]
    assert json.loads(revision)["revision"] == expanded.operation["revision"] == shown["revision"]


def test_a_host_that_shows_another_key_is_not_taken_for_it(expanded: Expanded) -> None:
    keys = [expanded.levier.get(f"/nodes/{node}")["host_key"] for node in DEPLOYED]
    assert len({key.split()[1] for key in keys}) == len(keys), "every host has a key of its own"
    told = ssh(expanded.levier, DEPLOYED[0], "true", host_key=keys[1])
    assert told.returncode == 255
    assert "Host key verification failed" in told.stderr


@contextmanager
def driver(levier: Installation, node: str) -> Iterator[RemoteHost]:
    """The product's own SSH driver on the host, through the rack's network."""
    shown = levier.get(f"/nodes/{node}")
    namespace = f"/run/netns/levier-{levier.lab}"
    wire = Wire(lambda: connected(namespace, (shown["address"], 22)))
    target = SshTarget("127.0.0.1", wire.port, "root", (shown["host_key"],), levier.key.read_text())
    host = open_host(target)
    try:
        yield host
    finally:
        host.close()
        wire.close()


def test_packages_reach_a_host_from_the_lab_s_mirror(expanded: Expanded) -> None:
    name = DEPLOYED[0]
    assert expanded.levier.rack.status()["mirror_state"] == "running"
    wanted = PackageSources.model_validate(expanded.levier.site["site"]["packages"])
    with driver(expanded.levier, name) as host:
        packages = open_packages(host, name=name, os_id=host.facts().os_id)
        sources, before = packages.sources(), packages.installed()
        listing = host.run("dpkg -l").stdout
        changed = packages.ensure_sources(wanted)
        assert "/etc/apt/sources.list.d/levier.sources" in changed
        change = packages.ensure_installed(["memcached"])
        assert "memcached" in change.added
        assert not change.changed
        assert host.run("systemctl is-active memcached", check=False).stdout == "inactive\n"
        assert packages.restore(before).removed == change.added
        packages.restore_sources(sources)
        assert host.run("dpkg -l").stdout == listing
        assert packages.sources() == sources


def test_a_ready_host_is_not_expanded_again(expanded: Expanded) -> None:
    mark, before = expanded.levier.mark(), len(expanded.levier.terminal.json("operation", "list"))
    answer = expanded.levier.terminal.run("expand", DEPLOYED[0])
    assert answer.status == 1
    assert f"node {DEPLOYED[0]} is ready" in answer.err
    assert "way out:" in answer.err
    assert len(expanded.levier.terminal.json("operation", "list")) == before
    assert not mark.page().events


def test_the_image_list_names_what_was_written(expanded: Expanded) -> None:
    image = expanded.levier.terminal.json("image", "list")[0]
    assert image["name"] == IMAGE
    assert re.fullmatch(r"[0-9a-f]{64}", image["sha256"])
    assert image["size_mib"] > 50


def test_rollback_takes_everything_back(expanded: Expanded) -> None:
    """Runs last in this file: the hosts are no more afterwards."""
    levier, mark = expanded.levier, expanded.mark
    rolled_back = levier.terminal.json("rollback", expanded.operation["id"])
    assert (rolled_back["state"], rolled_back["stands"]) == ("rolled_back", [])
    assert set(rolled_back["outcomes"]) == set(DEPLOYED)
    assert all(outcome.startswith("undone") for outcome in rolled_back["outcomes"].values())
    assert rolled_back["safe_state"].startswith(", ".join(DEPLOYED))
    assert levier.traces(*DEPLOYED) == []
    nodes, machines = levier.nodes(), levier.machines()
    for name in DEPLOYED:
        assert machines[name]["power"] == "off"
        assert machines[name]["boot_device"] == "none"
        assert (nodes[name]["state"], nodes[name]["address"], nodes[name]["os"]) == ("enrolled", None, None)
        assert nodes[name]["revision"] is None
        assert mark.page().of(name).booted_from() == ["pxe", "disk"], "taking back boots nothing"
        assert levier.get(f"/nodes/{name}")["host_key"] is None
    again = levier.terminal.run("rollback", expanded.operation["id"])
    assert again.status == 1
    assert "rolled_back already" in again.err
