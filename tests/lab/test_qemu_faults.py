"""Faults of the machines of the qemu chassis, seen from inside and from outside."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from levier.lab.faults import Fault, FaultKind
from levier.lab.spec import ChassisKind
from tests.lab.conftest import Bench
from tests.lab.provisioning import wait_until

pytestmark = pytest.mark.root
NODE = "a1-01"
YEAR_S = timedelta(days=365).total_seconds()


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench(chassis=ChassisKind.QEMU, nodes=1, disk_gib=1)


def test_the_machine_itself_sees_a_clock_that_is_a_year_ahead(bench: Bench) -> None:
    bench.rack.inject(NODE, Fault(kind=FaultKind.CLOCK_OFF, seconds=YEAR_S))
    bench.service.script("chain /clock-${unixtime}")
    bench.ipmi(NODE, "chassis", "bootdev", "pxe")
    bench.ipmi(NODE, "chassis", "power", "on")

    def told() -> list[str]:
        return [path for _, path in bench.service.requests if path.startswith("/clock-")]

    wait_until(lambda: bool(told()), what="the machine telling its time", timeout_s=60)
    found = re.fullmatch(r"/clock-(0x[0-9a-f]+)", told()[0])
    assert found
    assert int(found[1], 16) - time.time() == pytest.approx(YEAR_S, abs=60)
    (strike,) = [e for e in bench.rack.events(node=NODE, kind="fault") if e.detail["event"] == "struck"]
    assert strike.detail["fault"] == "clock-off"


def test_a_host_that_never_returns_has_power_and_does_nothing(bench: Bench) -> None:
    console = bench.rack.layout.console(NODE)

    def at_the_end() -> bool:
        return "No bootable device" in console.read_text(errors="replace")

    began = time.monotonic()
    bench.ipmi(NODE, "chassis", "power", "on")
    wait_until(at_the_end, what="an ordinary boot", timeout_s=60)
    ordinary_s = time.monotonic() - began
    bench.ipmi(NODE, "chassis", "power", "off")
    bench.wait_for_power(NODE, "off")

    bench.rack.inject(NODE, Fault(kind=FaultKind.HOST_NEVER_RETURNS))
    before = console.read_text(errors="replace")
    bench.ipmi(NODE, "chassis", "power", "on")
    bench.wait_for_boots(NODE, 2)
    time.sleep(2 * ordinary_s)  # that nothing happens takes as long to see as one waits
    assert console.read_text(errors="replace") == before
    assert bench.rack.node(NODE)["power"] == "on"
