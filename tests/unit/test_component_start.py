"""Starting a component: who is in its way, and what it takes to be healthy."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from levier.domain.component import Component, Health
from levier.domain.errors import Conflict, Rejected
from levier.domain.ssh import CommandResult
from levier.services.components import RenderedComponent
from levier.services.context import NodeContext
from levier.services.steps import component
from tests.unit.components.sites import TWO_ZONES, rendered, site_in

UNITS: dict[str, Any] = {"units": [{"name": "a.service"}, {"name": "b.service"}]}
SOON: dict[str, Any] = {"within_s": 0.01}
NGINX_LISTENS = 'LISTEN 0 511 0.0.0.0:443 0.0.0.0:* users:(("nginx",pid=812,fd=6))\n'


class Host:
    """A host of which only this much is known: its units, who listens, and how checks end."""

    def __init__(
        self, *, active: dict[str, bool], sockets: str = "", group: str = "/user.slice", failing: str = ""
    ) -> None:
        self.active = active
        self.sockets = sockets
        self.group = group
        """The control group of every process."""
        self.failing = failing
        """A check with this in it fails."""
        self.commands: list[str] = []

    def run(self, command: str, **_: Any) -> CommandResult:
        self.commands.append(command)
        last = command.rstrip().splitlines()[-1]
        if last.startswith("observe"):
            lines = [f"{unit} enabled {self._state(unit)} 1000.0 1f0c\n" for unit in last.split()[1:]]
            return CommandResult(0, "".join(lines), "", 0.0)
        if command == "ss -Hltnp":
            return CommandResult(0, self.sockets, "", 0.0)
        if "/cgroup" in command:
            return CommandResult(0, f"812 0::{self.group}\n", "", 0.0)
        if "urllib" in command:
            return CommandResult(0, "200\n", "", 0.0)
        failed = bool(self.failing) and self.failing in command
        return CommandResult(int(failed), "", "it failed" if failed else "", 0.0)

    def _state(self, unit: str) -> str:
        return "active" if self.active[unit] else "inactive"


def started(host: Host, spec: dict[str, Any], **more: Any) -> Any:
    """What the step that starts the component made of the host."""
    model = Component.model_validate({"name": "piece", "summary": "a piece", **spec})
    found = RenderedComponent(
        component=model.name,
        host="a1-01",
        settings={},
        origins={},
        files=(),
        units=tuple(each.name for each in model.units),
        actions=(),
        health=model.health,
        drain=None,
        catalog=(),
        **more,
    )
    cloud = SimpleNamespace(rendered=lambda *_: found)
    ctx = SimpleNamespace(cloud=cloud, site=None, name="a1-01", own_host=lambda: host, check=lambda: None)
    return component.start(model).do(cast(NodeContext, ctx))


@pytest.mark.parametrize("running", [False, True])
def test_a_port_that_another_program_has_is_told_before_anything_is_started_or_restarted(running: bool) -> None:
    host = Host(active={"a.service": running}, sockets=NGINX_LISTENS, group="/system.slice/nginx.service")
    with pytest.raises(Conflict, match=r"port 443 is taken by nginx \(process 812\)"):
        started(host, {"units": [{"name": "a.service"}]}, ports=(443,))
    assert not any("systemctl restart" in command for command in host.commands)


def test_a_port_that_its_own_unit_has_is_in_nobodys_way() -> None:
    host = Host(active={"a.service": True}, sockets=NGINX_LISTENS, group="/system.slice/a.service")
    assert started(host, {"units": [{"name": "a.service"}]}, ports=(443,))["changed"] == []


KERNEL_LISTENS = "LISTEN 0 64 0.0.0.0:2049 0.0.0.0:*\n"


def test_a_port_of_the_kernels_is_that_of_the_unit_that_is_up() -> None:
    up = Host(active={"a.service": True}, sockets=KERNEL_LISTENS)
    assert started(up, {"units": [{"name": "a.service"}]}, ports=(2049,))["changed"] == []
    with pytest.raises(Conflict, match="port 2049 is taken by the kernel"):
        started(Host(active={"a.service": False, "b.service": False}, sockets=KERNEL_LISTENS), UNITS, ports=(2049,))


def test_a_component_is_started_when_its_units_run_and_every_check_holds() -> None:
    host = Host(active={"a.service": True, "b.service": True})
    health = {"http": {"url": "http://10.0.0.1/"}, "command": ["ask"]}
    assert started(host, {**UNITS, "health": health})["changed"] == []
    assert any("urllib" in command for command in host.commands)
    assert any("exec ask" in command for command in host.commands)


@pytest.mark.parametrize("health", [{"http": {"url": "http://10.0.0.1/"}}, {"command": ["ask"]}, {}])
def test_a_unit_that_ended_after_its_start_is_named_whatever_the_check_says(health: dict[str, Any]) -> None:
    host = Host(active={"a.service": True, "b.service": False})
    with pytest.raises(Rejected, match=r"piece on a1-01 is not healthy after 0 s: b\.service is not active"):
        started(host, {**UNITS, "health": health | SOON})


def test_a_component_without_a_check_has_its_units_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(component, "Health", lambda: Health(**SOON))
    host = Host(active={"a.service": False, "b.service": False})
    with pytest.raises(Rejected, match=r"a\.service, b\.service are not active"):
        started(host, UNITS)


def test_an_api_that_answers_is_not_enough_where_a_command_is_asked_too() -> None:
    host = Host(active={"a.service": True, "b.service": True}, failing="exec ask")
    health = {"http": {"url": "http://10.0.0.1/"}, "command": ["ask"], **SOON}
    with pytest.raises(Rejected, match="its check ended with status 1: it failed"):
        started(host, {**UNITS, "health": health})


def test_a_component_without_units_is_judged_by_its_check_alone() -> None:
    host = Host(active={}, failing="exec ask")
    with pytest.raises(Rejected) as caught:
        started(host, {"health": {"command": ["ask"], **SOON}})
    assert str(caught.value).endswith("its check ended with status 1: it failed")
    assert not any("journalctl" in command for command in host.commands)


def test_the_servers_of_neutron_are_asked_at_the_api_and_at_the_message_queue() -> None:
    health = rendered(site_in(TWO_ZONES), "a1-01", "neutron-server").health
    assert health is not None
    assert health.http is not None
    assert health.http.url == "http://10.78.0.11:9696/"
    assert health.command is not None
    assert "ControlGroup levier-neutron-rpc-server.service" in health.command[-1]
