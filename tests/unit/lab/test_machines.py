"""Racks whose machines differ: what the command line says of single machines, and what cannot be."""

from __future__ import annotations

import json

import pytest

from levier.domain.errors import InvalidRequest
from levier.lab.faults import FaultKind, require_capable
from levier.lab.machine_options import machine_differences
from levier.lab.spec import ChassisKind, Difference, RackSpec, plan_rack


def _mixed(*options: str, chassis: ChassisKind = ChassisKind.NSPAWN) -> RackSpec:
    return plan_rack(name="m", chassis=chassis, nodes=3, machines=machine_differences(options))


def test_what_is_said_of_one_machine_is_had_by_it_alone() -> None:
    spec = _mixed("b1-01:chassis=qemu,memory-mib=3072,cpus=2,disk-gib=20", "a1-02:disk-gib=9")
    assert [(n.name, n.chassis.value, n.memory_mib, n.cpus, n.disk_gib) for n in spec.nodes] == [
        ("a1-01", "nspawn", 512, 1, 8),
        ("a1-02", "nspawn", 512, 1, 9),
        ("b1-01", "qemu", 3072, 2, 20),
    ]
    assert (spec.mixture, spec.stub, spec.namespace) == ("mixed", False, "levier-m")
    assert [node.name for node in spec.of_kind(ChassisKind.NSPAWN)] == ["a1-01", "a1-02"]
    assert RackSpec.from_json(spec.to_json()) == spec


def test_machines_are_the_same_ones_whatever_their_chassis() -> None:
    plain, mixed = _mixed(), _mixed("b1-01:chassis=qemu")
    assert [(n.mac, n.serial, n.bmc_address, n.guid) for n in plain.nodes] == [
        (n.mac, n.serial, n.bmc_address, n.guid) for n in mixed.nodes
    ]
    assert plain.mixture == "nspawn"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["b1-09:chassis=qemu"], "there is no machine b1-09"),
        (["b1-01:chassis=stub"], "stub stands beside no other"),
        (["b1-01:chassis=xen"], "no chassis 'xen'"),
        (["b1-01"], "is not NODE:KEY=VALUE"),
        (["b1-01:"], "is not NODE:KEY=VALUE"),
        ([":chassis=qemu"], "is not NODE:KEY=VALUE"),
        (["b1-01:ram=5"], "'ram=5' is not understood"),
        (["b1-01:chassis=qemu,"], "'' is not understood"),
        (["b1-01:cpus=two"], "cpus is a whole number, not 'two'"),
        (["b1-01:chassis=qemu,cpus=0"], "b1-01 cannot have cpus 0"),
        (["b1-01:chassis=qemu,memory-mib=64"], "b1-01 cannot have memory-mib 64"),
        (["b1-01:disk-gib=0"], "b1-01 cannot have disk-gib 0"),
        (["b1-01:memory-mib=2048"], "b1-01 has the memory and the processors of this computer"),
        (["b1-01:cpus=2"], "b1-01 has the memory and the processors of this computer"),
        (["b1-01:chassis=qemu,chassis=qemu"], "chassis is given twice"),
        (["b1-01:disk-gib=9,disk-gib=9"], "disk-gib is given twice"),
        (["b1-01:disk-gib=9", "b1-01:chassis=qemu"], "b1-01 is given twice"),
    ],
)
def test_what_cannot_be_is_refused(options: list[str], named: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        _mixed(*options)
    assert named in str(refused.value)


def test_a_rack_of_stubs_takes_no_other_machine() -> None:
    with pytest.raises(InvalidRequest, match="stub stands beside no other: a1-01, a1-02"):
        _mixed("b1-01:chassis=qemu", chassis=ChassisKind.STUB)
    assert _mixed("b1-01:disk-gib=2", chassis=ChassisKind.STUB).stub


def test_sizes_of_the_whole_rack_are_looked_at_too() -> None:
    with pytest.raises(InvalidRequest, match="a1-01 cannot have disk-gib 0"):
        plan_rack(name="m", chassis=ChassisKind.QEMU, nodes=1, disk_gib=0)


def test_a_fault_is_for_the_machines_that_can_do_it() -> None:
    nodes = _mixed("b1-01:chassis=qemu").nodes
    require_capable(nodes, FaultKind.BMC_DIES)
    require_capable(nodes[:2], FaultKind.DISK_FULL)
    require_capable(nodes[2:], FaultKind.CLOCK_OFF)
    with pytest.raises(InvalidRequest, match="the chassis qemu cannot do disk-full") as refused:
        require_capable(nodes, FaultKind.DISK_FULL)
    assert "a1-01, a1-02 can do it" in refused.value.hint
    with pytest.raises(InvalidRequest, match="the chassis nspawn cannot do clock-off"):
        require_capable(nodes[:1], FaultKind.CLOCK_OFF)


def test_a_lab_of_an_earlier_version_is_read() -> None:
    spec = plan_rack(name="m", chassis=ChassisKind.NSPAWN, nodes=2, machines={"a1-02": Difference(disk_gib=3)})
    raw = json.loads(spec.to_json())
    for node in raw["nodes"]:
        for key in ("chassis", "memory_mib", "cpus", "disk_gib"):
            del node[key]
    read = RackSpec.from_json(json.dumps({**raw, "chassis": "qemu", "memory_mib": 768, "disk_gib": 4}))
    assert [(n.chassis.value, n.memory_mib, n.cpus, n.disk_gib) for n in read.nodes] == [("qemu", 768, 1, 4)] * 2
