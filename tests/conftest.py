"""What holds for every test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import NodeManager

from tests.rig.lane import Lane

ROOT = Path(__file__).parent.parent
# Processes that tests start import this checkout, also when it is not installed.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))

# No time is asserted in a test: on a busy computer an example takes ten times as long as on a quiet one.
settings.register_profile("levier", deadline=None)
settings.load_profile("levier")

# Ctrl-C: each process takes down what it started, racks and installations, before it is ended.
NodeManager.EXIT_TIMEOUT = 120

LANES: dict[str, tuple[str, ...]] = {
    "a cloud": ("tests/integration/cloud",),
    "the matrix": ("tests/faults/test_matrix.py",),
    "an installation": ("tests/integration/e2e",),
    "an installation with gates": ("tests/integration/e2e/test_cancel.py", "tests/integration/e2e/test_recovery.py"),
    "the lab": ("tests/lab",),
    "servers": ("tests/integration",),
    "faults": ("tests/faults",),
    "hosts": ("tests/contract",),
}
"""What one process of `make test` runs without a break: tests that share what is slow to start; the longest first,
and what needs no image beside the one that builds it.

The most exact path counts; any other file is a lane of its own.
"""


LANE: pytest.StashKey[Lane] = pytest.StashKey()


@pytest.fixture(scope="session")
def lane(request: pytest.FixtureRequest) -> Lane:
    """Ends when this process goes on to tests of another lane, or to none.

    For what computes while it idles: an installation that nobody uses any more takes a quarter of a processor.
    A fixture that shares something there has the scope of a module: one of the session's outlives the lane.
    """
    return request.config.stash[LANE]


def pytest_configure(config: pytest.Config) -> None:
    """Every process has its lane."""
    config.stash[LANE] = Lane()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """What is the lane's is gone with its last test."""
    if nextitem is None or _lane(item.path) != _lane(nextitem.path):
        item.config.stash[LANE].end()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """It is gone as well when the tests were interrupted."""
    session.config.stash[LANE].end()


class LaneScheduling(LoadScopeScheduling):
    """Hands out whole lanes, in the order of the tests."""

    def _split_scope(self, nodeid: str) -> str:
        return _lane(ROOT / nodeid.partition("::")[0])


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LaneScheduling:
    """Who runs which test, when there are several processes."""
    return LaneScheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first."""
    items.sort(key=lambda item: _place(item.path))


def _lane(path: Path) -> str:
    name = path.relative_to(ROOT).as_posix()
    paths = {own: lane for lane, owned in LANES.items() for own in owned}
    return paths.get(max((own for own in paths if f"{name}/".startswith(f"{own}/")), key=len, default=""), name)


def _place(path: Path) -> int:
    order = list(LANES)
    lane = _lane(path)
    return order.index(lane) if lane in order else len(order)
