"""Steps of an installation × faults, on containers with real daemons: those kinds of steps that a small cloud has.

By itself it takes the telling faults; `make test-faults` takes all.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.cases import FaultCase, telling
from tests.faults.installed.clouds import SMALL
from tests.faults.installed.kinds import Place, cases, places
from tests.faults.installed.session import EVERY_FAULT, WALK_S, Walked, walking
from tests.faults.table import Matrix

pytestmark = [pytest.mark.root, pytest.mark.timeout(WALK_S)]


def _cases(*, every: bool) -> dict[Place, list[FaultCase]]:
    return {place: [case for case in cases(place) if every or telling(case)] for place in places(SMALL)}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        found = _cases(every=metafunc.config.getoption(EVERY_FAULT))
        metafunc.parametrize("case", [case for own in found.values() for case in own], ids=str)


@pytest.fixture(scope="module")
def walked(request: pytest.FixtureRequest) -> Iterator[Walked]:
    with walking(SMALL, _cases(every=request.config.getoption(EVERY_FAULT))) as walked:
        yield walked


def test_fault(case: FaultCase, walked: Walked, matrix: Matrix) -> None:
    matrix.verdicts[case] = walked.verdicts[case].result(timeout=WALK_S)
    assert matrix.verdicts[case].wrong == ()


def test_every_step_was_undone_once_more_and_the_hosts_are_as_before(walked: Walked) -> None:
    assert walked.back.result(timeout=WALK_S) == []
