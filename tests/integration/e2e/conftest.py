"""One rack and one Levier for all end-to-end tests; each test finds every machine off and leaves it so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.e2e.installation import Installation, an_installation


@pytest.fixture(scope="session")
def installation() -> Iterator[Installation]:
    """The installation, whatever its machines are doing."""
    with an_installation() as installation:
        yield installation


@pytest.fixture
def levier(installation: Installation) -> Iterator[Installation]:
    """The installation at rest; brought to rest again afterwards."""
    yield installation
    installation.come_to_rest()
