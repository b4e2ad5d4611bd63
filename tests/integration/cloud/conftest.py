"""One cloud for all tests here, installed once."""

from __future__ import annotations

import functools

import pytest

from tests.integration.cloud.installation import CloudInstallation
from tests.integration.e2e.installation import installed
from tests.rig.lane import Lane


@pytest.fixture(scope="module")
def rack(lane: Lane) -> CloudInstallation:
    """The rack, whatever its machines are doing.

    Servers on the emulated compute host would be emulated inside the emulation: tests/long/long_own_kernel.py.
    """
    return lane.share("cloud", lambda: installed(functools.partial(CloudInstallation, emulated="fake")))
