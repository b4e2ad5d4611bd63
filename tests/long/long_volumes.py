"""Volumes that servers on another host are given, by iSCSI and by NFS: it takes two hosts with kernels of their own.

From powered off to the smoke test takes half an hour, nearly all of it on the emulated hosts.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cloud.installation import (
    COMPUTE_IMAGE,
    CONTROLLER,
    NEAR,
    OWN_KERNEL,
    CloudInstallation,
    step_of,
)
from tests.integration.e2e.installation import Site, installed

pytestmark = [pytest.mark.root, pytest.mark.timeout(7200)]
DISK = "/dev/loop7"
SHARED = "/srv/shared"
PATIENT = {"cinder.conf": {"DEFAULT": {"rpc_response_timeout": 600}}}
"""One emulated processor makes a target for a volume, another runs a server and logs in to it: more than a minute."""
SHARE = Path(__file__).parent / "components"


class Rack(CloudInstallation):
    """A controller in a container, and two emulated hosts: one runs servers, one stores their volumes."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, emulated="qemu")
        self.terminal.environment["LEVIER_COMPONENT_DIRS"] += f"{os.pathsep}{SHARE}"

    def _lab_options(self) -> tuple[str, ...]:
        return (*super()._lab_options(), "--machine", f"{NEAR}:chassis=qemu,memory-mib=2048,disk-gib=12")

    def _first_site(self, site: Site) -> Site:
        site = super()._first_site(site)
        roles = {CONTROLLER: ["controller", "network"], NEAR: ["storage"], OWN_KERNEL: ["compute"]}
        nodes = [{**node, "roles": roles.get(node["name"], [])} for node in site["nodes"]]
        for node in nodes:
            if node["name"] == NEAR:
                node["image"] = COMPUTE_IMAGE
        return {
            **site,
            "nodes": nodes,
            "roles": [
                {"name": "compute", "also": ["open-iscsi", "nfs-client"]},
                {"name": "storage", "also": ["share"]},
            ],
            "settings": {
                **site["settings"],
                "cinder-api": {"config": PATIENT},
                "cinder-volume": {"backend": "lvm", "volume_devices": [DISK]},
            },
        }

    def use_share(self) -> None:
        """The site says that volumes are files on the share."""
        share = f"{self.nodes()[NEAR]['address']}:{SHARED}"

        def change(site: Site) -> None:
            site["settings"]["cinder-volume"] = {"backend": "nfs", "nfs_shares": [share]}

        self.apply(self.changed(change))


@pytest.fixture(scope="module")
def rack() -> Iterator[Rack]:
    with installed(Rack) as rack:
        rack.terminal.ok("expand", NEAR, OWN_KERNEL, timeout_s=rack.patience_s)
        yield rack


def _volume_checked(rack: Rack) -> str:
    answer, operation = rack.install()
    assert answer.status == 0, answer.text[-4000:]
    result: dict[str, Any] = step_of(operation, "smoke-check", OWN_KERNEL)["result"]
    return str(result["volume"])


def test_a_server_wrote_to_a_logical_volume_of_another_host_by_iscsi(rack: Rack) -> None:
    rack.on(NEAR, f"fallocate -l 3G /srv/disk && losetup {DISK} /srv/disk")
    assert "written, read back" in _volume_checked(rack)
    assert "levier-volumes" in rack.on(NEAR, "vgs --noheadings -o vg_name,pv_name")
    assert "is operational now" in rack.on(OWN_KERNEL, "journalctl --no-pager -u iscsid.service")


def test_a_volume_group_that_was_there_is_not_made_anew(rack: Rack) -> None:
    look = "systemctl restart levier-cinder-shares.service; vgs --noheadings -o vg_name"
    found = rack.on(NEAR, f"vgrename levier-volumes aside && {{ {look}; vgrename aside levier-volumes; }}", check=False)
    assert "aside" in found
    assert "  levier-volumes\n" not in found
    said = rack.on(NEAR, "journalctl --no-pager -u levier-cinder-shares.service")
    assert f"the volume group levier-volumes was on {NEAR} and is not there now" in said
    assert "levier-volumes" in rack.on(NEAR, look)


def _nfs_calls(rack: Rack, host: str) -> int:
    """What the host's kernel has asked of NFS servers so far (nfsstat(8), /proc/net/rpc/nfs)."""
    # The file is there from the first mount on.
    counted = rack.on(host, "cat /proc/net/rpc/nfs 2>/dev/null || true")
    return sum(int(line.split()[1]) for line in counted.splitlines() if line.startswith("rpc "))


def test_a_server_wrote_to_a_file_on_a_share_of_another_host_by_nfs(rack: Rack) -> None:
    rack.use_share()
    before = _nfs_calls(rack, OWN_KERNEL)
    assert "written, read back" in _volume_checked(rack)
    mounted = rack.on(NEAR, "findmnt --noheadings --types nfs,nfs4 --output SOURCE,TARGET")
    assert f"{rack.nodes()[NEAR]['address']}:{SHARED} /var/lib/cinder/mnt/" in re.sub(r" +", " ", mounted)
    assert _nfs_calls(rack, OWN_KERNEL) > before
