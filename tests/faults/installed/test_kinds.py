"""No step of an installation is without its faults: each is of a kind, and each kind has its place on a walk."""

from __future__ import annotations

from dataclasses import replace

import pytest

from levier.saga.step import Undo
from levier.services.steps.sequences import STEPS
from tests.faults.cases import telling
from tests.faults.installed import kinds as module
from tests.faults.installed.clouds import SMALL, WHOLE
from tests.faults.installed.kinds import Place, cases, kinds, places, places_beyond, registered

PLACES = (*places(SMALL), *places_beyond(WHOLE, SMALL))


def test_every_registered_step_of_an_installation_is_of_a_kind_that_is_walked() -> None:
    covered = {place.kind for place in PLACES}
    assert {name for name in registered() if name not in STEPS and kinds().get(name) not in covered} == set()


def test_every_kind_has_one_place() -> None:
    assert sorted(place.kind for place in PLACES) == sorted(set(kinds().values()))


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.kind)
def test_a_place_has_every_fault_that_its_step_can_have(place: Place) -> None:
    undoable = not isinstance(registered()[place.step].undo, Undo)
    found = cases(place)
    assert {(case.kind, case.step) for case in found} == {("install", place.step)}
    assert len(found) == (16 if undoable else 12)
    assert len([case for case in found if telling(case)]) == 3


def test_of_a_kind_the_component_of_few_words_is_taken() -> None:
    by_kind = {place.kind: place for place in places(WHOLE)}
    assert by_kind["database"].step == "database-placement"
    assert by_kind["message queue"].step == "message-queue-cinder-api"


def test_a_fixed_step_that_somebody_registers_is_a_kind_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    more = replace(registered()["reach-host"], name="name-host")
    monkeypatch.setattr(module, "registered", lambda: {**registered(), more.name: more})
    assert module.kinds.__wrapped__()["name-host"] == "name-host"
