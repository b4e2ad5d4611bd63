"""Every registered step × every fault, on real protocols: none of these was written for a step."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from tests.faults.cases import FaultCase, cases
from tests.faults.conduct import Verdict
from tests.faults.table import Matrix

CASE_S = 600.0


@pytest.mark.parametrize("case", cases(), ids=str)
def test_fault(case: FaultCase, verdicts: dict[FaultCase, Future[Verdict]], matrix: Matrix) -> None:
    verdict = verdicts[case].result(timeout=CASE_S)
    matrix.verdicts[case] = verdict
    assert verdict.wrong == ()
