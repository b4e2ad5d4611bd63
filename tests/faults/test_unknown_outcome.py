"""A command that was sent and never answered is followed by a look, never by a blind repeat."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from levier.domain.operation import OperationState
from levier.lab.faults import Fault, FaultKind
from tests.faults.rack import FaultRack
from tests.faults.verdict import never_right, not_done
from tests.faults.worker import carry_out, order

NODES = 100
LOST_PERCENT = 30
SEED = 20261122


@pytest.fixture
def lossy() -> Iterator[FaultRack]:
    """A rack of a hundred whose BMCs do what they are told and lose three in ten of their replies."""
    with tempfile.TemporaryDirectory(prefix="levier-lossy-", dir="/var/tmp") as directory:
        rack = FaultRack(Path(directory), nodes=NODES, name="lossy")
        try:
            rack.start()
            rack.lab.inject("all", Fault(kind=FaultKind.BMC_REPLIES_LOST, percent=LOST_PERCENT, count=None, seed=SEED))
            yield rack
        finally:
            rack.stop()


def test_a_hundred_expands_with_lost_replies_do_everything_once(lossy: FaultRack) -> None:
    nodes = [node.name for node in lossy.lab.spec().nodes]
    operation = order(lossy.services, "expand", nodes)
    began = lossy.place()
    settlement = carry_out(lossy.services, operation, parallel=50)
    status = lossy.services.operations.status(operation)
    assert settlement.state is OperationState.SUCCEEDED, status.error
    wrong = {
        node: found
        for node in nodes
        if (found := [*never_right(s := lossy.sight(node, status, since=began)), *not_done(s)])
    }
    assert wrong == {}
    struck = sum(int(armed["struck"]) for armed in lossy.lab.faults())
    attempts = sum(step.attempts for step in status.steps)
    print(f"{struck} replies lost; {attempts} attempts at {len(status.steps)} steps; every image written once")
    assert struck > NODES, "the fault was there"
