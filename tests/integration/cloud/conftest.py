"""One cloud for all tests here, installed once."""

from __future__ import annotations

import functools
from contextlib import ExitStack

import pytest

from tests.integration.cloud.installation import CloudInstallation
from tests.integration.e2e.installation import installed


@pytest.fixture(scope="session")
def rack(lane: ExitStack) -> CloudInstallation:
    """The rack, whatever its machines are doing.

    Servers on the emulated compute host would be emulated inside the emulation: tests/long/long_own_kernel.py.
    """
    return lane.enter_context(installed(functools.partial(CloudInstallation, emulated="fake")))
