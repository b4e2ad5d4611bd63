"""Inspecting looks, from outside and inside, and leaves the machine as it was."""

from __future__ import annotations

import pytest

from tests.integration.e2e.installation import Installation

pytestmark = [pytest.mark.root, pytest.mark.timeout(1800)]


def test_an_inspection_records_the_machine_and_leaves_it_off(levier: Installation) -> None:
    mark, node = levier.mark(), "b1-02"
    operation = levier.terminal.json("inspect", node)
    assert (operation["kind"], operation["state"]) == ("inspect", "succeeded")
    shown, machine = levier.terminal.json("node", "show", node), levier.machines()[node]
    assert (shown["state"], shown["serial"], shown["address"]) == ("available", machine["serial"], None)
    disk = shown["inventory"]["disks"][0]
    assert (disk["serial"], disk["size_bytes"]) == (
        machine["disk_serial"],
        levier.rack.layout.disk(node).stat().st_size,
    )
    assert [nic["mac"] for nic in shown["inventory"]["nics"]] == [machine["mac"]]
    assert machine["power"] == "off"
    assert levier.traces(node) == []
    of_node = mark.page().of(node)
    assert of_node.booted_from() == ["pxe"]
    assert of_node.kind("disk-write") == []
    assert of_node.touches(), "and the ledger would have told of it"


def test_the_bmc_alone_may_be_asked(levier: Installation) -> None:
    mark = levier.mark()
    operation = levier.terminal.json("inspect", "--no-in-band", "a1-01")
    assert operation["state"] == "succeeded"
    assert "Get Chassis Status" in mark.page().of("a1-01").commands()
    assert mark.page().touches() == []
