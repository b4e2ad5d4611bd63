"""A node changes its state along the table and in no other way."""

# ruff: noqa: E501 - tables and messages are read best as they are

from __future__ import annotations

from itertools import product

import pytest

from levier.domain.errors import Conflict
from levier.domain.node import (
    BACKWARD,
    FORWARD,
    NodeFlags,
    NodeState,
    allowed_from,
    require_operable,
    transition,
)
from tests.unit.site_samples import ROOT

S = NodeState
EDGES = {
    (S.DISCOVERED, S.ENROLLED),
    (S.ENROLLED, S.AVAILABLE), (S.ENROLLED, S.RETIRING), (S.ENROLLED, S.DISCOVERED), (S.ENROLLED, S.RETIRED),
    (S.AVAILABLE, S.DEPLOYING), (S.AVAILABLE, S.RETIRING), (S.AVAILABLE, S.ENROLLED),
    (S.DEPLOYING, S.READY), (S.DEPLOYING, S.AVAILABLE),
    (S.READY, S.IN_SERVICE), (S.READY, S.REINSTALLING), (S.READY, S.RETIRING), (S.READY, S.DEPLOYING), (S.READY, S.AVAILABLE),
    (S.IN_SERVICE, S.DRAINING), (S.IN_SERVICE, S.READY),
    (S.DRAINING, S.READY), (S.DRAINING, S.REINSTALLING), (S.DRAINING, S.RETIRING), (S.DRAINING, S.IN_SERVICE),
    (S.REINSTALLING, S.READY), (S.REINSTALLING, S.DRAINING),
    (S.RETIRING, S.RETIRED), (S.RETIRING, S.ENROLLED), (S.RETIRING, S.AVAILABLE), (S.RETIRING, S.READY), (S.RETIRING, S.DRAINING),
    (S.RETIRED, S.ENROLLED),
}  # fmt: skip
"""Written out a second time on purpose: whoever changes the table says so here as well."""


@pytest.mark.parametrize(("state", "to"), list(product(S, S)), ids=str)
def test_every_pair_of_states(state: NodeState, to: NodeState) -> None:
    if state is to or (state, to) in EDGES:
        assert transition(state, to) is to
        return
    with pytest.raises(Conflict) as caught:
        transition(state, to)
    assert caught.value.message == f"a node is {state} and cannot become {to}"
    assert all(str(each) in caught.value.hint for each in allowed_from(state))


def test_every_state_has_its_rows_and_can_be_reached_from_the_first() -> None:
    assert set(FORWARD) == set(BACKWARD) == set(S)
    reached, border = {S.DISCOVERED}, [S.DISCOVERED]
    while border:
        border = [to for state in border for to in FORWARD[state] if to not in reached]
        reached.update(border)
    assert reached == set(S)


def test_what_goes_back_reverses_what_went_forward_and_a_wiped_node_never_returns() -> None:
    shortcuts = {(S.READY, S.AVAILABLE)}
    for state, earlier in ((state, to) for state, row in BACKWARD.items() for to in row):
        assert state in FORWARD[earlier] or (state, earlier) in shortcuts
    assert S.RETIRING not in allowed_from(S.RETIRED)


def test_the_designs_path_can_be_walked() -> None:
    path = [S.DISCOVERED, S.ENROLLED, S.AVAILABLE, S.DEPLOYING, S.READY, S.IN_SERVICE, S.DRAINING, S.REINSTALLING]
    path += [S.READY, S.IN_SERVICE, S.DRAINING, S.RETIRING, S.RETIRED]
    state = path[0]
    for to in path[1:]:
        state = transition(state, to)
    assert state is S.RETIRED


def test_flags_are_apart_from_the_state_and_stand_in_the_way_of_an_operation() -> None:
    require_operable("a1-01", NodeFlags())
    flags = NodeFlags(maintenance=True, locked=True).with_fault(" PSU 2 failed ")
    with pytest.raises(Conflict, match=r"node a1-01 is set aside \(maintenance; locked; fault: PSU 2 failed\)"):
        require_operable("a1-01", flags)
    assert flags.without_fault() == flags.without_fault().without_fault() == NodeFlags(maintenance=True, locked=True)
    with pytest.raises(ValueError, match="reason"):
        flags.with_fault(" ")


def test_the_concepts_page_has_the_same_table() -> None:
    page = (ROOT / "docs" / "concepts.md").read_text()
    for state in S:
        forward, backward = ", ".join(FORWARD[state]), ", ".join(BACKWARD[state])
        assert f"| `{state}` | {forward} | {backward} |" in page
