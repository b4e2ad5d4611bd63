"""A machine that is not the one the site file means is told apart before anything happens to it."""

# ruff: noqa: E501 - tables and messages are read best as they are

from __future__ import annotations

from typing import Any

import pytest

from levier.domain.bmc import FruInventory
from levier.domain.hints import GIB
from levier.domain.inventory import Disk, Inventory, Nic
from levier.domain.matching import describe_mismatches, match_node
from tests.unit.site_samples import SAMPLE, load

SPEC = load(SAMPLE).site.node("a1-01")
ROOT_DISK = Disk(name="vda", size_bytes=8 * GIB, serial="ROOT-1")
MACHINE = Inventory(
    serial="LV-0001",
    firmware="bios",
    disks=(ROOT_DISK, Disk(name="vdb", size_bytes=GIB, serial="DATA-1")),
    nics=(Nic(name="ens3", mac="52:54:00:00:00:01"), Nic(name="ens4", mac="52:54:00:00:00:02"), Nic(name="ib0", mac="52:54:00:00:00:09")),
)  # fmt: skip


def _changed(**values: Any) -> Inventory:
    return MACHINE.model_copy(update=values)


def test_the_machine_that_is_meant_matches_whatever_else_it_has() -> None:
    assert match_node(SPEC, MACHINE, required_bytes=8 * GIB) == ()
    assert match_node(SPEC, _changed(serial=" lv-0001 ")) == ()
    assert match_node(SPEC, _changed(firmware="")) == ()


@pytest.mark.parametrize(
    ("seen", "field", "message"),
    [
        (_changed(serial="LV-0099"), "serial", "the machine reports the serial number LV-0099, the site file says LV-0001"),
        (_changed(serial=""), "serial", "the machine reports no serial number, the site file says LV-0001"),
        (_changed(serial="To Be Filled By O.E.M."), "serial", "the machine reports no serial number"),
        (_changed(firmware="uefi"), "firmware", "the machine was booted by uefi, the site file says bios"),
        (_changed(nics=MACHINE.nics[:1]), "nics[eth1].mac", "no NIC has the MAC address 52:54:00:00:00:02 of eth1; the machine's NICs are: ens3 52:54:00:00:00:01"),
        (_changed(nics=()), "nics[eth0].mac", "the machine's NICs are: none"),
        (_changed(disks=MACHINE.disks[1:]), "root_device", "no disk matches the root device hints (serial=ROOT-1)"),
        (_changed(disks=()), "root_device", "the machine reports no disk"),
        (_changed(disks=(ROOT_DISK.model_copy(update={"size_bytes": GIB}),)), "root_device", "is too small: the image needs 4.00 GiB"),
        (FruInventory(serial="LV-0002"), "serial", "its BMC reports the serial number LV-0002, the site file says LV-0001"),
    ],
)  # fmt: skip
def test_each_difference_is_named(seen: Inventory | FruInventory, field: str, message: str) -> None:
    found = {each.field: each for each in match_node(SPEC, seen, required_bytes=4 * GIB)}
    assert message in found[field].message


def test_all_differences_come_at_once_and_in_one_text() -> None:
    seen = Inventory(serial="OTHER", firmware="uefi", nics=(Nic(name="ens3", mac="52:54:00:00:00:02"),))
    found = match_node(SPEC, seen)
    assert [each.field for each in found] == ["serial", "firmware", "nics[eth0].mac", "root_device"]
    text = describe_mismatches("a1-01", found)
    assert text.startswith("node a1-01 is not the machine that the site file describes:\n  the machine reports")
    assert text.count("\n") == 4


@pytest.mark.parametrize("serial", ["", "Default string", "LV-0001", "lv-0001"])
def test_a_bmc_that_knows_no_serial_number_is_no_difference(serial: str) -> None:
    assert match_node(SPEC, FruInventory(serial=serial)) == ()


def test_what_the_site_file_leaves_open_is_not_compared() -> None:
    spec = SPEC.model_copy(update={"serial": None, "root_device": None})
    assert match_node(spec, _changed(serial="ANY", disks=(ROOT_DISK,))) == ()
    assert [each.field for each in match_node(spec, MACHINE)] == ["root_device"]
