"""What the simulation found, as small as it was made; each of these histories broke a promise once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from levier.domain import operation as domain
from levier.domain.operation import StepEvent, StepStatus
from tests.simulation.history import History
from tests.simulation.kernel import Violation
from tests.simulation.scenario import SEQUENCE, Blow, Fault, FaultKind, Going, Interruption, Order, Scenario

ORDER = Order(steps=frozenset(SEQUENCE) - {"wipe-tpm"}, first=0, last=0, wave_size=100, parallel=20, after_s=0)
BOTH = replace(ORDER, last=1)
PLAIN = Scenario(
    nodes=2,
    addresses=100,
    powered=frozenset(),
    orders=(ORDER,),
    faults=(),
    outages=(),
    interruptions=(),
    cancels=(),
    recoveries=(),
    verdicts=(),
    choices=(),
)
REFUSED_THEN_RESUMED = replace(
    PLAIN,
    powered=frozenset({0}),
    orders=(BOTH,),
    faults=(Fault(0, "power-on", Going.BEFORE, FaultKind.REFUSED, 5),),
    verdicts=("repair", "resume", "regret"),
)

FINDINGS = {
    "a node that another operation holds": replace(PLAIN, orders=(ORDER, ORDER)),
    "a process that died before it took over": replace(PLAIN, interruptions=(Interruption(0, Blow.LOST),)),
    "cancelled before it was taken over": replace(PLAIN, interruptions=(Interruption(0, Blow.LOST),), cancels=(0,)),
    "stopped before it took over": replace(PLAIN, interruptions=(Interruption(1, Blow.STOP),)),
    "a rollback that died before it took over": replace(
        PLAIN, interruptions=(Interruption(6, Blow.UI_CANCEL), Interruption(7, Blow.LOST))
    ),
    "stopped, and others ended it as held": replace(
        PLAIN, addresses=1, orders=(BOTH,), interruptions=(Interruption(0, Blow.STOP),), recoveries=(230,)
    ),
    "refused before it acted, then resumed": REFUSED_THEN_RESUMED,
}


@pytest.mark.parametrize("name", FINDINGS)
def test_the_history_keeps_every_promise_now(name: str) -> None:
    History(FINDINGS[name]).play()


def test_the_order_of_undoing_was_wrong_after_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was: a failure before the step acted kept it its place, and it was undone last."""
    right = domain._after_start

    def old(status: StepStatus, event: StepEvent) -> StepStatus:
        return replace(right(status, event), first_seq=status.first_seq or event.seq)

    monkeypatch.setattr(domain, "_after_start", old)
    with pytest.raises(Violation):
        History(REFUSED_THEN_RESUMED).play()
