"""One rack and one Levier for all end-to-end tests; each test finds every machine off and leaves it so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.e2e.gated_installation import GatedInstallation
from tests.integration.e2e.installation import Installation, installed
from tests.rig.lane import Lane


@pytest.fixture(scope="module")
def installation(lane: Lane) -> Installation:
    """The installation, whatever its machines are doing."""
    return lane.share("installation", lambda: installed(Installation))


@pytest.fixture
def levier(installation: Installation) -> Iterator[Installation]:
    """The installation at rest; brought to rest again afterwards."""
    yield installation
    installation.come_to_rest()


@pytest.fixture(scope="module")
def gated_installation(lane: Lane) -> GatedInstallation:
    """Stub machines and flows with gates, whatever they are doing."""
    return lane.share("gated installation", lambda: installed(GatedInstallation))


@pytest.fixture
def gated(gated_installation: GatedInstallation) -> Iterator[GatedInstallation]:
    """The same at rest, its gates open; brought to rest again afterwards."""
    gated_installation.opened()
    yield gated_installation
    gated_installation.opened()
    gated_installation.come_to_rest()
