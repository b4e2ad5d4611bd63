"""Faults of the machines of the nspawn chassis: its firmware asks the daemon, and does what the fault says."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from levier.domain.errors import InvalidRequest
from levier.lab.faults import Fault, FaultKind, Stage
from levier.lab.spec import ChassisKind
from tests.lab.conftest import Bench
from tests.lab.host_image import RAW_SIZE
from tests.lab.provisioning import seed_archive, wait_until

pytestmark = pytest.mark.root
NODE = "a1-01"


@pytest.fixture
def bench(make_bench: Callable[..., Bench], host_image: bytes) -> Bench:
    made = make_bench(chassis=ChassisKind.NSPAWN, nodes=1, disk_gib=2)
    made.service.agent_script()
    made.service.entry_for(made.spec.nodes[0].mac)
    made.service.order_image(host_image, raw_size_bytes=RAW_SIZE, seed=seed_archive({"etc/hostname": b"a1-01\n"}))
    return made


def _boot_with(bench: Bench, *faults: Fault) -> None:
    for fault in faults:
        bench.rack.inject(NODE, fault)
    bench.ipmi(NODE, "chassis", "bootdev", "pxe")
    bench.ipmi(NODE, "chassis", "power", "on")


def _struck(bench: Bench) -> list[str]:
    found = bench.rack.events(node=NODE, kind="fault")
    return [event.detail["fault"] for event in found if event.detail["event"] == "struck"]


def _failure(bench: Bench) -> dict[str, str]:
    wait_until(lambda: [r for r in bench.service.reports if r["state"] == "failed"], what="the failure")
    return bench.service.reports[-1]


def test_a_corrupted_image_is_found_by_the_agent(bench: Bench) -> None:
    _boot_with(bench, Fault(kind=FaultKind.IMAGE_CORRUPTED))
    report = _failure(bench)
    assert report["stage"] == "write"
    assert "image checksum mismatch" in report["detail"]
    assert _struck(bench) == ["image-corrupted"]


def test_a_full_disk_is_the_kernels_own_error(bench: Bench) -> None:
    _boot_with(bench, Fault(kind=FaultKind.DISK_FULL))
    report = _failure(bench)
    assert report["stage"] == "write"
    assert "No space left on device" in report["detail"]


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        (Stage.CLAIM, []),
        (Stage.VERIFY, ["write/started", "write/done", "verify/started"]),
    ],
)
def test_a_hung_ramdisk_says_nothing_more_and_power_ends_it(bench: Bench, stage: Stage, told: list[str]) -> None:
    _boot_with(bench, Fault(kind=FaultKind.RAMDISK_HANGS, stage=stage))
    wait_until(lambda: _struck(bench) == ["ramdisk-hangs"], what="the strike", timeout_s=120)
    assert bench.service.stages() == told
    asked = len(bench.service.requests)
    bench.ipmi(NODE, "chassis", "power", "off")
    bench.wait_for_power(NODE, "off")
    assert len(bench.service.requests) == asked
    assert bench.powers(NODE) == [("on", "bmc"), ("off", "bmc")]


def test_a_host_that_never_returns_has_power_and_no_operating_system(bench: Bench) -> None:
    bench.service.orders.append("action=reboot\n")
    _boot_with(bench, Fault(kind=FaultKind.HOST_NEVER_RETURNS))
    wait_until(lambda: _struck(bench) == ["host-never-returns"], what="the strike", timeout_s=120)
    assert bench.boots(NODE) == [("pxe", "power-on"), ("disk", "guest-reboot")]
    assert bench.rack.events(node=NODE, kind="os-start") == []
    assert bench.rack.node(NODE)["power"] == "on"


def test_what_containers_cannot_do_is_refused(bench: Bench) -> None:
    for kind in (FaultKind.SSH_DROPS, FaultKind.CLOCK_OFF):
        with pytest.raises(InvalidRequest, match=f"nspawn cannot do {kind}"):
            bench.rack.inject(NODE, Fault(kind=kind))
