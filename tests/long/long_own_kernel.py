"""A compute host with a kernel of its own: an emulated machine, whose servers are emulated inside the emulation.

From powered off to the smoke test passed takes 20 to 30 minutes, nearly all of it on that host.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest

from tests.integration.cloud.installation import CONTROLLER, FAR, NEAR, OWN_KERNEL, CloudInstallation, step_of
from tests.integration.e2e.installation import installed

pytestmark = [pytest.mark.root, pytest.mark.timeout(5400)]


@pytest.fixture(scope="module")
def cloud() -> Iterator[CloudInstallation]:
    """A cloud of a controller and a compute host in containers, and one that is emulated."""
    with installed(functools.partial(CloudInstallation, emulated="qemu")) as rack:
        answer, operation = rack.install()
        assert answer.status == 0, answer.text[-4000:]
        for step in operation["steps"]:
            if step["target"] == OWN_KERNEL:
                print(f"{step['step']:<40} {step['duration_s'] or 0:7.1f} s")
        yield rack


def test_its_server_reached_those_in_containers_and_was_reached(cloud: CloudInstallation) -> None:
    operation = cloud.newest_operation()
    assert "system@" in cloud.on(OWN_KERNEL, "ovs-appctl dpif/show")
    for host in (NEAR, FAR, OWN_KERNEL):
        result = step_of(operation, "smoke-check", host)["result"]
        assert set(result["peers"].values()) == {"ping=ok http=ok"}
        assert result["screen"]
    assert step_of(operation, "smoke-remove", CONTROLLER)["result"]["left"] == []
