"""The server of the smoke test: two of them in QEMU, with DHCP and metadata as neutron and nova give them."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.guest import build_guest, verify_guest
from levier.domain.errors import Rejected
from levier.domain.smoke import REACHED, user_data
from tests.integration.netboot.provisioning_net import SERVER
from tests.rig.smoke_net import address, shared_guest, smoke_net

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

LATE = "10.77.0.50"
"""A peer that answers only after a while."""
BOOT_S = 180.0
"""On a busy machine; idle it takes a tenth."""


def test_guests_tell_what_they_reach_and_try_again_what_they_do_not() -> None:
    with smoke_net() as net:
        net.serve(user_data=user_data([address(0), address(1), LATE]), index=f"levier-smoke {LATE}\n")
        first, second = net.boot(), net.boot()

        for guest, other in ((first, second), (second, first)):
            seen = guest.wait_for(
                lambda r, other=other: r.peers.get(other.address) == REACHED and LATE in r.peers, timeout_s=BOOT_S
            )
            assert (seen.address, seen.mtu) == (guest.address, 1446)
            assert seen.metadata
            assert seen.gateway
            assert seen.peers[LATE] == "ping=no"
            assert not seen.done

        net.add_address(LATE)
        for guest in (first, second):
            seen = guest.wait_for(lambda r: r.done, timeout_s=120)
            assert seen.peers[LATE] == REACHED
        assert f"LEVIER-SMOKE gateway={SERVER} ping=ok" in first.console

        volume = first.directory / "volume"
        assert first.report.volumes == {}
        first.monitor(
            f"drive_add 0 file={volume},format=raw,if=none,id=v1", "device_add virtio-blk-pci,drive=v1,id=vol"
        )
        seen = first.wait_for(lambda r: "vdb" in r.volumes, timeout_s=120)
        assert seen.volumes["vdb"].size_bytes == volume.stat().st_size
        assert seen.volumes["vdb"].io_works
        assert volume.read_bytes()[: 1 << 20].count(0) < 1 << 15, "what was written is random"
        first.monitor("device_del vol")
        first.wait_for(lambda r: not r.volumes["vdb"].is_there, timeout_s=120)


def test_the_same_inputs_give_the_same_bytes_and_a_spoilt_file_is_found(tmp_path: Path) -> None:
    shared = shared_guest().record
    lines: list[str] = []
    built = build_guest(tmp_path, lines.append)
    assert (built.record.kernel_sha256, built.record.ramdisk_sha256) == (shared.kernel_sha256, shared.ramdisk_sha256)
    assert built.record.kernel_size_bytes + built.record.ramdisk_size_bytes < 25 << 20
    assert lines != []

    lines.clear()
    assert build_guest(tmp_path, lines.append) == built
    assert lines == [], "a current one is kept"

    with built.ramdisk_path.open("r+b") as file:
        file.write(b"x")
    with pytest.raises(Rejected, match="not what was built"):
        verify_guest(built)
    assert build_guest(tmp_path, lines.append).record.ramdisk_sha256 == shared.ramdisk_sha256
