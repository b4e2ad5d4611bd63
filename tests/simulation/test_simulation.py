"""A bounded search on seeds that stay the same; `make test-simulation` goes on from random ones."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from tests.simulation.history import History
from tests.simulation.scenario import SEQUENCE, Blow, Fault, FaultKind, Going, Interruption, Order, Scenario, in_words
from tests.simulation.search import Found, search

SEEDS = range(1, 9)

ORDER = Order(steps=frozenset(SEQUENCE) - {"wipe-tpm"}, first=0, last=1, wave_size=1, parallel=20, after_s=0)
PLAIN = Scenario(
    nodes=2,
    addresses=100,
    powered=frozenset({1}),
    orders=(ORDER,),
    faults=(),
    outages=(),
    interruptions=(),
    cancels=(),
    recoveries=(),
    verdicts=(),
    choices=(),
)


def test_no_history_breaks_a_promise() -> None:
    total = Found()
    for number in SEEDS:
        total.add(search(number))
        assert total.seed is None, f"see it again: make test-simulation SEED={total.seed}\n\n{total.broken}"
    assert total.histories >= 100 * len(SEEDS)
    # Nothing is proved by histories in which nothing happens, or that all end alike.
    assert {"succeeded", "rolled_back", "held", "cancelled"} <= set(total.ends)
    assert {blow.value for blow in Blow} <= set(total.happened)
    assert {"database away", "database read-only"} <= set(total.happened)
    assert len({kind.value for kind in FaultKind} & set(total.happened)) >= 6


def test_a_seed_means_the_same_histories_in_every_process() -> None:
    """Or the command to see a failure again would show something else."""
    here = search(3)
    command = [sys.executable, "-m", "tests.simulation", "--seed", "3"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert f" {here.points} points" in shown.stdout


def test_a_history_is_the_same_whenever_it_is_played() -> None:
    eventful = replace(
        PLAIN,
        faults=(Fault(0, "write-image", Going.DO, FaultKind.UNKNOWN, 1),),
        interruptions=(Interruption(60, Blow.MACHINE), Interruption(90, Blow.STOP)),
        choices=(3, 1, 4, 1, 5, 2, 0, 5, 3),
    )
    traces = []
    for _ in range(2):
        history = History(eventful)
        history.play()
        traces.append(history.kernel.trace)
    assert traces[0] == traces[1]
    assert len(traces[0]) > 30
    assert "n0 disk := image of expand-1" in "\n".join(traces[0])


def test_the_plain_history_succeeds() -> None:
    history = History(PLAIN)
    history.play()
    status = history.log.status("expand-1")
    assert status.state == "succeeded"
    assert [history.world.nodes[n]["power"] for n in ("n0", "n1")] == ["on", "on"]
    assert history.world.images == {("expand-1", "n0"): 1, ("expand-1", "n1"): 1}


@pytest.mark.parametrize("point", range(5, 250, 12))
@pytest.mark.parametrize("blow", list(Blow))
def test_one_blow_at_a_time(blow: Blow, point: int) -> None:
    history = History(replace(PLAIN, interruptions=(Interruption(point, blow),)))
    history.play()
    expected = "cancelled" if blow is Blow.UI_CANCEL else "succeeded"
    ended = history.log.status("expand-1").state
    assert ended == expected or (blow is Blow.UI_CANCEL and ended == "succeeded"), in_words(history.scenario)
