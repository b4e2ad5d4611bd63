"""Steps of an installation × every fault, on a whole cloud: those kinds of steps that the small one does not have.

Only `make test-faults` comes here.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.cases import FaultCase
from tests.faults.installed.clouds import SMALL, WHOLE
from tests.faults.installed.kinds import cases, places_beyond
from tests.faults.installed.session import WALK_S, Walked, walking
from tests.faults.table import Matrix

pytestmark = [pytest.mark.root, pytest.mark.timeout(WALK_S)]
CASES = {place: cases(place) for place in places_beyond(WHOLE, SMALL)}


@pytest.fixture(scope="module")
def walked() -> Iterator[Walked]:
    with walking(WHOLE, CASES) as walked:
        yield walked


@pytest.mark.parametrize("case", [case for own in CASES.values() for case in own], ids=str)
def test_fault(case: FaultCase, walked: Walked, matrix: Matrix) -> None:
    matrix.verdicts[case] = walked.verdicts[case].result(timeout=WALK_S)
    assert matrix.verdicts[case].wrong == ()


def test_every_step_was_undone_once_more_and_the_hosts_are_as_before(walked: Walked) -> None:
    assert walked.back.result(timeout=WALK_S) == []
