"""Starting a component: who is in its way, and what it takes to be healthy."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from levier.domain.component import Component
from levier.domain.errors import Conflict
from levier.domain.ssh import CommandResult
from levier.services.components import RenderedComponent
from levier.services.context import NodeContext
from levier.services.steps.component import start

NGINX_LISTENS = 'LISTEN 0 511 0.0.0.0:443 0.0.0.0:* users:(("nginx",pid=812,fd=6))\n'


class Host:
    """A host of which only this much is known: its units, who listens, and how checks end."""

    def __init__(self, *, active: dict[str, bool], sockets: str = "", failing: str = "") -> None:
        self.active = active
        self.sockets = sockets
        self.failing = failing
        """A check with this in it fails."""
        self.commands: list[str] = []

    def run(self, command: str, **_: Any) -> CommandResult:
        self.commands.append(command)
        last = command.rstrip().splitlines()[-1]
        if last.startswith("observe"):
            lines = [f"{unit} enabled {self._state(unit)} 1000.0\n" for unit in last.split()[1:]]
            return CommandResult(0, "".join(lines), "", 0.0)
        if command == "ss -Hltnp":
            return CommandResult(0, self.sockets, "", 0.0)
        if "urllib" in command:
            return CommandResult(0, "200\n", "", 0.0)
        failed = bool(self.failing) and self.failing in command
        return CommandResult(int(failed), "", "it failed" if failed else "", 0.0)

    def _state(self, unit: str) -> str:
        return "active" if self.active[unit] else "inactive"


def started(host: Host, component: dict[str, Any], **rendered: Any) -> Any:
    """What the step that starts the component made of the host."""
    model = Component.model_validate({"name": "piece", "summary": "a piece", **component})
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
        **rendered,
    )
    cloud = SimpleNamespace(rendered=lambda *_: found)
    ctx = SimpleNamespace(cloud=cloud, site=None, name="a1-01", own_host=lambda: host, check=lambda: None)
    return start(model).do(cast(NodeContext, ctx))


def test_a_port_that_follows_from_the_site_and_is_taken_is_told_before_anything_starts() -> None:
    host = Host(active={"a.service": False}, sockets=NGINX_LISTENS)
    with pytest.raises(Conflict, match=r"port 443 is taken by nginx \(process 812\)"):
        started(host, {"units": [{"name": "a.service"}]}, ports=(443,))
    assert not any("systemctl restart" in command for command in host.commands)
