"""What takes a host with a kernel of its own: logical volumes by iSCSI, and a clock that can be wrong.

From powered off to the smoke test takes most of an hour, nearly all of it on the emulated host.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cloud.installation import CONTROLLER, OWN_KERNEL, CloudInstallation, step_of
from tests.integration.e2e.installation import Site, installed

pytestmark = [pytest.mark.root, pytest.mark.timeout(5400)]
DISK = "/dev/loop7"
PATIENT = {"cinder.conf": {"DEFAULT": {"rpc_response_timeout": 600}}}
"""One emulated processor runs a server, makes a target for its volume and logs in to it: more than a minute."""


class Rack(CloudInstallation):
    """A controller in a container, and an emulated host that runs servers and stores their volumes."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, emulated="qemu")

    def _first_site(self, site: Site) -> Site:
        site = super()._first_site(site)
        roles = {CONTROLLER: ["controller", "network"], OWN_KERNEL: ["compute", "storage"]}
        return {
            **site,
            "nodes": [{**node, "roles": roles.get(node["name"], [])} for node in site["nodes"]],
            "roles": [{"name": "compute", "also": ["open-iscsi"]}],
            "settings": {
                **site["settings"],
                "cinder-api": {"config": PATIENT},
                "cinder-volume": {"backend": "lvm", "volume_devices": [DISK]},
            },
        }


@pytest.fixture(scope="module")
def rack() -> Iterator[Rack]:
    with installed(Rack) as rack:
        rack.terminal.ok("expand", OWN_KERNEL, timeout_s=rack.patience_s)
        yield rack


def test_a_server_wrote_to_a_logical_volume_by_iscsi(rack: Rack) -> None:
    rack.on(OWN_KERNEL, f"fallocate -l 3G /srv/disk && losetup {DISK} /srv/disk")
    answer, operation = rack.install()
    assert answer.status == 0, answer.text[-4000:]
    assert "written, read back" in step_of(operation, "smoke-check", OWN_KERNEL)["result"]["volume"]
    assert "levier-volumes" in rack.on(OWN_KERNEL, "vgs --noheadings -o vg_name,pv_name")
    assert "is operational now" in rack.on(OWN_KERNEL, "journalctl --no-pager -u iscsid.service")


def test_a_clock_that_is_off_is_named_and_its_host_falls_alone(rack: Rack) -> None:
    rack.on(OWN_KERNEL, "systemctl stop systemd-timesyncd && date --set='+1 hour'")
    try:
        answer, operation = rack.install()
    finally:
        rack.on(OWN_KERNEL, "date --set='-1 hour' && systemctl start systemd-timesyncd")
    assert answer.status != 0
    assert operation["state"] == "held"
    assert [(s["step"], s["target"]) for s in operation["steps"] if s["error"]] == [("reach-host", OWN_KERNEL)]
    assert re.search(rf"{OWN_KERNEL}: the host's clock is 3[56]\d\d s ahead, and was not set right within", answer.text)
    assert operation["outcomes"][CONTROLLER] == "ready"
    assert {rack.nodes()[host]["state"] for host in (CONTROLLER, OWN_KERNEL)} == {"in_service"}
