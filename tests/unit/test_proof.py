"""What an undone target is seen to be: which looks are due, what they add up to, and how it is told."""

from __future__ import annotations

import pytest

from levier.domain.errors import LeaseLost, Unreachable
from levier.domain.operation import JsonMap
from levier.saga.proof import proofs_due, seen_by, states_before
from levier.saga.step import Checkpoint, Step, StepRegistry, Undo
from levier.services.operation_view import as_map
from tests.unit.operation_logs import LogBook


def do(_ctx: object) -> JsonMap:
    return {}


def undo(_ctx: object, _checkpoint: Checkpoint) -> JsonMap:
    return {}


def power(_ctx: object) -> JsonMap:
    return {"power": "off"}


def entry(_ctx: object) -> JsonMap:
    return {"boot_entry": False}


def silent(_ctx: object) -> JsonMap:
    raise Unreachable("the BMC does not answer")


def fenced_off(_ctx: object) -> JsonMap:
    raise LeaseLost("another worker took over")


REGISTRY = StepRegistry()
REGISTRY.add(
    Step(name="a", title="", do=do, undo=undo, proof=power),
    Step(name="b", title="", do=do, undo=undo, proof=entry),
    Step(name="c", title="", do=do, undo=undo, proof=power),
    Step(name="look", title="", do=do, undo=Undo.NO_EFFECT),
)


def undone() -> LogBook:
    log = LogBook(steps=("look", "a", "b", "c")).state("running").done("n1", "look")
    log.step("a", "n1", "started", before={"power": "on"}).step("a", "n1", "succeeded")
    return log.done("n1", "b", "c").undone("n1", "c", "b", "a", "look")


def test_each_look_is_due_once_when_everything_is_undone() -> None:
    log = LogBook(steps=("look", "a", "b", "c")).state("running").done("n1", "look", "a", "b", "c")
    assert proofs_due(log.fold(), REGISTRY, "n1") == ()
    log.undone("n1", "c", "b")
    assert proofs_due(log.fold(), REGISTRY, "n1") == (), "a still stands"
    log.undone("n1", "a")
    assert proofs_due(log.fold(), REGISTRY, "n1") == (), "look still stands"
    log.undone("n1", "look")
    assert proofs_due(log.fold(), REGISTRY, "n1") == (power, entry)
    assert proofs_due(log.fold(), REGISTRY, "n2") == ()


def test_a_target_that_nothing_changed_asks_for_no_look() -> None:
    log = LogBook(steps=("look", "a")).state("running").step("look", "n1", "started", "failed").undone("n1", "look")
    assert proofs_due(log.fold(), REGISTRY, "n1") == ()


def test_what_was_seen_holds_until_a_step_moves_on() -> None:
    log = undone().observed("n1", power="off")
    assert (log.fold().targets["n1"].observed or {})["power"] == "off"
    assert proofs_due(log.fold(), REGISTRY, "n1") == (), "looked already"
    log.state("held").state("running").step("look", "n1", "started")
    assert log.fold().targets["n1"].observed is None


def test_what_cannot_be_seen_is_said_and_stops_no_other_look() -> None:
    assert seen_by((silent, entry), None) == {
        "boot_entry": False,
        "problems": ["Unreachable: the BMC does not answer"],
    }
    with pytest.raises(LeaseLost):
        seen_by((entry, fenced_off), None)


def test_the_state_before_is_that_of_the_first_step_that_saw_one() -> None:
    log = LogBook(steps=("a", "b")).state("running")
    log.step("a", "n1", "started", before={"power": "on"}).step("a", "n1", "succeeded")
    log.step("b", "n1", "started", before={"power": "off", "device": "none"}).step("b", "n1", "succeeded")
    log.undone("n1", "b", "a")
    assert states_before(log.fold(), "n1") == {"power": "on", "device": "none"}


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (
            {"power": "off", "power_before": "off", "boot_entry": False},
            "n1: power off, as before, no boot entry (seen ",
        ),
        ({"power": "on", "power_before": "off"}, "n1: power on, it was off before (seen "),
        ({"power": "off", "boot_entry": True}, "n1: power off, a boot entry STILL stands (seen "),
        ({"address": "10.0.0.7"}, "n1: address 10.0.0.7 STILL held (seen "),
        (
            {"address": None, "problems": ["Unreachable: no answer"]},
            "no address held, NOT SEEN: Unreachable: no answer",
        ),
    ],
)
def test_the_safe_state_is_told_by_what_was_seen(seen: dict[str, object], said: str) -> None:
    log = undone().observed("n1", **seen).state("unwinding").state("rolled_back")
    assert said in as_map(log.fold(), steps=False)["safe_state"]


def test_a_safe_state_that_nobody_saw_is_not_claimed() -> None:
    log = LogBook(steps=("look", "a")).state("running").step("look", "n1", "started", "failed").undone("n1", "look")
    log.state("unwinding").state("rolled_back")
    assert as_map(log.fold(), steps=False)["safe_state"] == "n1: no machine was touched"
    assert as_map(LogBook().state("cancelled").fold(), steps=False)["safe_state"] == "nothing was done"


def test_nodes_of_which_the_same_was_seen_are_told_together() -> None:
    log = LogBook(targets=("n1", "n2", "n3"), steps=("a",)).state("running")
    for node in ("n1", "n2", "n3"):
        log.done(node, "a").undone(node, "a")
    log.observed("n1", power="off").observed("n2", power="off").observed("n3", power="on")
    log.state("unwinding").state("rolled_back")
    said = as_map(log.fold(), steps=False)["safe_state"]
    assert said == "n1, n2: power off (seen 00:00:15 to 00:00:16 UTC); n3: power on (seen 00:00:17 UTC)"
