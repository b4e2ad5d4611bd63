"""Logical volumes by iSCSI: they take a host with a kernel of its own.

From powered off to the smoke test takes half an hour, nearly all of it on the emulated host.
"""

from __future__ import annotations

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
