"""A compute host whose clock is wrong: it takes a kernel of its own, for containers have the clock of this computer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cloud.installation import CONTROLLER, OWN_KERNEL, CloudInstallation
from tests.integration.e2e.installation import Site, installed

pytestmark = [pytest.mark.root, pytest.mark.timeout(3600)]


class Rack(CloudInstallation):
    """A controller in a container, and an emulated compute host."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, emulated="fake")

    def _first_site(self, site: Site) -> Site:
        site = super()._first_site(site)
        roles = {CONTROLLER: ["controller", "network"], OWN_KERNEL: ["compute"]}
        return {**site, "nodes": [{**node, "roles": roles.get(node["name"], [])} for node in site["nodes"]]}


@pytest.fixture(scope="module")
def cloud() -> Iterator[Rack]:
    with installed(Rack) as rack:
        answer, _ = rack.install()
        assert answer.status == 0, answer.text[-4000:]
        yield rack


def test_a_clock_that_is_off_is_named_and_its_host_falls_alone(cloud: Rack) -> None:
    cloud.on(OWN_KERNEL, "systemctl stop systemd-timesyncd && date --set='+1 hour'")
    try:
        answer, operation = cloud.install()
    finally:
        cloud.on(OWN_KERNEL, "date --set='-1 hour' && systemctl start systemd-timesyncd")
    assert answer.status != 0
    assert operation["state"] == "held"
    assert [(s["step"], s["target"]) for s in operation["steps"] if s["error"]] == [("reach-host", OWN_KERNEL)]
    assert re.search(rf"{OWN_KERNEL}: the host's clock is 3[56]\d\d s ahead, and was not set right within", answer.text)
    assert operation["outcomes"][CONTROLLER] == "ready"
    assert {cloud.nodes()[host]["state"] for host in (CONTROLLER, OWN_KERNEL)} == {"in_service"}
