"""Every registered step × every fault, on real protocols: none of these was written for a step.

`make test` takes one fault of each sort at each step; `make test-faults` and `make bench` take all.
"""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from tests.faults.cases import FaultCase, cases, everyday
from tests.faults.conduct import Verdict
from tests.faults.installed.session import EVERY_FAULT
from tests.faults.table import Matrix

CASE_S = 600.0


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """All of the matrix with `--every-fault`; else the everyday part."""
    every = metafunc.config.getoption(EVERY_FAULT)
    metafunc.parametrize("case", cases() if every else everyday(cases()), ids=str)


def test_fault(case: FaultCase, verdicts: dict[FaultCase, Future[Verdict]], matrix: Matrix) -> None:
    verdict = verdicts[case].result(timeout=CASE_S)
    matrix.verdicts[case] = verdict
    assert verdict.wrong == ()
