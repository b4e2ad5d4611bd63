"""Which chassis a machine has. Each is imported only where it is used: a rack of containers needs no SSH library."""

from __future__ import annotations

from collections.abc import Callable

from levier.lab.chassis import Chassis
from levier.lab.faults import FaultSource
from levier.lab.layout import Layout
from levier.lab.ledger import Record
from levier.lab.spec import ChassisKind, NodeSpec, RackSpec

ChassisFactory = Callable[[NodeSpec, Record, FaultSource], Chassis]


def chassis_factory(rack: RackSpec, layout: Layout) -> ChassisFactory:
    """Makes the chassis of each node of the rack. To be called once, inside the daemon's event loop."""
    makers = {ChassisKind.QEMU: _qemu, ChassisKind.NSPAWN: _nspawn, ChassisKind.STUB: _stub}
    made = {kind: makers[kind](rack, layout) for kind in rack.kinds}
    return lambda node, record, faults: made[node.chassis](node, record, faults)


def _qemu(rack: RackSpec, layout: Layout) -> ChassisFactory:
    from levier.lab.cgroups import CgroupTree
    from levier.lab.chassis.qemu import QemuChassis

    cgroups = CgroupTree(rack.name)
    return lambda node, _record, faults: QemuChassis(
        rack=rack, node=node, layout=layout, cgroups=cgroups, faults=faults
    )


def _nspawn(rack: RackSpec, layout: Layout) -> ChassisFactory:
    from levier.lab.cgroups import CgroupTree
    from levier.lab.chassis.nspawn import NspawnChassis

    cgroups = CgroupTree(rack.name)
    return lambda node, record, _faults: NspawnChassis(
        rack=rack, node=node, layout=layout, cgroups=cgroups, record=record
    )


def _stub(rack: RackSpec, layout: Layout) -> ChassisFactory:
    from levier.lab.chassis.stub import StubChassis, StubRack
    from levier.lab.stub.faulty import FaultyLife

    shared = StubRack.prepared(rack, layout)
    return lambda node, record, faults: StubChassis(shared, node=node, record=record, hooks=FaultyLife(faults))
