"""What a person reads at the end of an installation."""

from __future__ import annotations

from typing import Any

from levier.cli.install_report import install_report


def step(name: str, target: str = "n1", **known: Any) -> dict[str, Any]:
    return {"step": name, "target": target, "changed": None, "result": None} | known


def test_nothing_changed_is_said_only_when_no_step_changed_anything() -> None:
    idle = [
        step("start-keystone", changed=[]),
        step("keystone-bootstrap"),
        step("smoke-server", result={"server": "x"}),
    ]
    assert list(install_report(idle)) == [
        "Nothing was changed: all 3 steps found their work done; 1 of them repeat a command that cannot tell."
    ]
    busy = [*idle, step("start-glance", changed=["levier-glance.service"])]
    assert list(install_report(busy))[-1].startswith("1 of 4 steps changed something")


def test_what_a_server_did_and_what_was_not_checked() -> None:
    result = {
        "address": "198.18.0.10",
        "peers": {"198.18.0.11": "ping=ok http=ok"},
        "screen": "720x400",
        "not_checked": {"volume": "no host runs cinder-volume"},
    }
    first, *_ = install_report([step("smoke-check", result=result)])
    assert first == (
        "n1: its server had 198.18.0.10 by DHCP; reached 198.18.0.11 (ping=ok http=ok); screen 720x400; "
        "volume not checked: no host runs cinder-volume"
    )
