"""A hundred machines whose BMCs lose 30 of a hundred replies: nothing is done twice, and everything gets done."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from levier.lab.faults import Fault, FaultKind
from levier.lab.rack import ALL
from levier.services.patience import Patience
from tests.rig.levier_in_process import levier_in_process

NODES = 100
# Generous where a busy machine may be slow; what is tested here is not time.
PATIENCE = Patience(power_timeout_s=30.0, first_sign_timeout_s=120.0, silence_timeout_s=60.0, host_timeout_s=120.0)


def test_a_hundred_expands_with_lost_replies_write_once_and_boot_twice(tmp_path: Path) -> None:
    with levier_in_process(tmp_path, nodes=NODES, patience=PATIENCE) as levier:
        levier.inject(ALL, Fault(kind=FaultKind.BMC_REPLIES_LOST, count=None, percent=30.0, seed=1))
        verdict = levier.operate("expand", parallel=32)
        assert verdict.state == "succeeded", verdict.settlement.reason
        truth = levier.rack.status()["nodes"]
        assert Counter((n["image_writes"], n["boots"], n["power"]) for n in truth) == {(1, 2, "on"): NODES}
        events = levier.rack.events()
        commands = [e for e in events if e.kind == "bmc-command" and e.detail["name"] == "Chassis Control"]
        assert Counter(e.detail["action"] for e in commands) == {"on": NODES}
        assert len({e.node for e in commands}) == NODES
        assert [e.detail["to"] for e in events if e.kind == "power"] == ["on"] * NODES
        lost = [e for e in events if e.kind == "fault" and e.detail["event"] == "struck"]
        assert len({e.node for e in lost}) == NODES
        lost_power = [e for e in lost if e.detail["command"] == "power"]
        assert len(lost_power) > NODES / 6  # the reply to the one command that must not be repeated
        retries = Counter(s.step for s in verdict.status.steps if s.attempts > 1)
        print(f"{len(lost)} replies lost, {len(lost_power)} of them to power; {verdict.duration_s:.0f} s; {retries=}")
