"""Runs the cases that were selected, several at a time, and prints the matrix at the end."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.cases import FaultCase
from tests.faults.conduct import Verdict, judge
from tests.faults.installed.session import EVERY_FAULT
from tests.faults.rack import FaultRack
from tests.faults.table import Matrix
from tests.rig.lane import Lane

AT_ONCE = 6
"""Cases at the same time: they wait for machines more than they compute."""
MATRIX = pytest.StashKey[Matrix]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(EVERY_FAULT, action="store_true", help="meet the steps of an installation with every fault, too")
    parser.addoption("--fault-table", type=Path, help="write the fault matrix there, as Markdown")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[MATRIX] = Matrix()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The whole cloud takes many minutes: `make test-faults` goes there."""
    return True if collection_path.name == "test_whole_cloud.py" and not config.getoption(EVERY_FAULT) else None


@pytest.fixture(scope="module")
def rack(lane: Lane) -> FaultRack:
    """A rack of its own in a directory of its own, both gone afterwards."""
    return lane.share("fault rack", _fault_rack)


@contextmanager
def _fault_rack() -> Iterator[FaultRack]:
    with tempfile.TemporaryDirectory(prefix="levier-faults-", dir="/var/tmp") as directory:
        rack = FaultRack(Path(directory), nodes=8 * AT_ONCE)
        try:
            rack.start()
            yield rack
        finally:
            rack.stop()


@pytest.fixture(scope="module")
def verdicts(request: pytest.FixtureRequest, rack: FaultRack, lane: Lane) -> dict[FaultCase, Future[Verdict]]:
    """The verdict on every selected case, once it is there."""
    selected = [
        item.callspec.params["case"]
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and "verdicts" in item.fixturenames
        and "case" in getattr(item, "callspec", _NoCase()).params
    ]
    return lane.share("verdicts", functools.partial(_judged, rack, selected))


@contextmanager
def _judged(rack: FaultRack, cases: Sequence[FaultCase]) -> Iterator[dict[FaultCase, Future[Verdict]]]:
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        yield {case: pool.submit(judge, rack, case) for case in cases}
    finally:
        pool.shutdown(cancel_futures=True)


class _NoCase:
    params: dict[str, object] = {}  # noqa: RUF012 - never changed


@pytest.fixture
def matrix(request: pytest.FixtureRequest) -> Matrix:
    """Where verdicts are noted."""
    return request.config.stash[MATRIX]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    matrix = config.stash[MATRIX]
    if matrix.verdicts:
        terminalreporter.section("faults: step × fault × verdict")
        terminalreporter.write(matrix.text())
        if target := config.getoption("--fault-table"):
            target.write_text(matrix.page(), encoding="utf-8")
