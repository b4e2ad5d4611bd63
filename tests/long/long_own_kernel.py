"""A compute host with a kernel of its own: an emulated machine, whose servers are emulated inside the emulation.

From powered off to the smoke test passed takes 20 to 30 minutes, nearly all of it on that host.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest

from tests.integration.cloud.installation import CONTROLLER, FAR, NEAR, CloudInstallation, step_of
from tests.integration.e2e.installation import installed

pytestmark = [pytest.mark.root, pytest.mark.timeout(5400)]
EMULATED = f"{FAR}:chassis=qemu,memory-mib=3072,cpus=2,disk-gib=12"


@pytest.fixture(scope="module")
def cloud() -> Iterator[CloudInstallation]:
    """A cloud of a controller and a compute host in containers, and one that is emulated."""
    with installed(functools.partial(CloudInstallation, machines=(EMULATED,))) as rack:
        answer, operation = rack.install()
        assert answer.status == 0, answer.text[-4000:]
        for step in operation["steps"]:
            if step["target"] == FAR:
                print(f"{step['step']:<40} {step['duration_s'] or 0:7.1f} s")
        yield rack


def test_the_emulated_host_runs_its_own_kernel_and_switches_in_it(cloud: CloudInstallation) -> None:
    assert {m["name"]: m["chassis"] for m in cloud.machines().values()}[FAR] == "qemu"
    assert cloud.on(FAR, "uname -r") != cloud.on(NEAR, "uname -r")
    assert "system@" in cloud.on(FAR, "ovs-appctl dpif/show")
    assert "netdev@" in cloud.on(NEAR, "ovs-appctl dpif/show")


def test_its_server_reached_the_one_in_a_container_and_was_reached(cloud: CloudInstallation) -> None:
    operation = cloud.newest_operation()
    for host in (NEAR, FAR):
        result = step_of(operation, "smoke-check", host)["result"]
        assert list(result["peers"].values()) == ["ping=ok http=ok"]
        assert result["screen"]
    assert step_of(operation, "smoke-remove", CONTROLLER)["result"]["left"] == []
