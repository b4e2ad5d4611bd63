"""One cloud for all tests here, installed once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.cloud.installation import CloudInstallation
from tests.integration.e2e.installation import installed


@pytest.fixture(scope="session")
def rack() -> Iterator[CloudInstallation]:
    """The rack, whatever its machines are doing."""
    with installed(CloudInstallation) as rack:
        yield rack
