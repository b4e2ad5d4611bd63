"""Compute hosts on which nova rightly places no server: the smoke test tells it, and the host does not fall."""

from __future__ import annotations

from collections.abc import Mapping

from openstack.connection import Connection

from drivers.openstack import computes, servers
from drivers.openstack.computes import Room
from drivers.openstack.servers import ComputeService, ServerState
from levier.domain import install_plan, smoke
from levier.domain.errors import Rejected
from levier.domain.operation import JsonMap
from levier.domain.smoke import Check
from levier.services.context import NodeContext
from levier.services.polling import wait_on
from levier.services.smoke import SmokeTest

REGISTERED_S = 120.0
"""A compute service tells of itself every 10 s, and is known once the hosts were discovered."""


def not_placed(why: str) -> JsonMap:
    """The result of a step on a host without a server. Of the rest nothing is said: it follows."""
    return {"not_checked": {Check.SERVER.value: why}}


def why_not_placed(ctx: NodeContext) -> str:
    """Why the host has no server, as the step said that was to make one; empty when it has one."""
    return str(ctx.outputs_if_any(install_plan.SMOKE_SERVER).get("not_checked", {}).get(Check.SERVER.value, ""))


def await_service(test: SmokeTest, cloud: Connection) -> str:
    """Nova takes servers for the host: empty; or somebody disabled it: why it does not. Safe to repeat.

    Raises Rejected: it does not come up; or the host is new and would be in service without ever having been tried.
    """
    host, found = test.ctx.name, None

    def look() -> bool:
        nonlocal found
        found = servers.compute_service(cloud, host)
        return found is not None and (found.takes_servers or found.disabled_on_purpose)

    ended = wait_on(test.ctx.own_host(), look, timeout_s=REGISTERED_S, check=test.ctx.check).seconds is not None
    if ended and found is not None:
        return _disabled(test.ctx, found) if found.disabled_on_purpose else ""
    last = "nova does not know it" if found is None else f"its compute service is {found}"
    raise Rejected(
        f"{host} takes no servers: {last}; on {host}: {test.journal()}",
        hint=f"on {host}: systemctl status levier-nova-compute",
    )


def _disabled(ctx: NodeContext, service: ComputeService) -> str:
    enable = f"openstack compute service set --enable {ctx.name} nova-compute"
    if ctx.outputs_if_any(install_plan.REGISTERED).get("changed"):
        raise Rejected(
            f"the new host {ctx.name} takes no servers: its compute service is {service}, so that it cannot be tried",
            hint=f"{enable}; if nova-api has enable_new_services = false, set it to true while hosts join",
        )
    return f"its compute service is {service}: {enable}"


def why_full(test: SmokeTest, cloud: Connection, state: ServerState) -> str:
    """Why the scheduler found no room for the server, when others' servers have it; empty otherwise.

    A host without room for one server though it has none has not the room that was meant: it is not full.
    """
    if not state.found_no_host:
        return ""
    room = computes.room_on(cloud, test.ctx.name)
    scarce = [kind for kind, n in smoke.SERVER_NEEDS.items() if kind in room and room[kind].free < n]
    if not any(room[kind].used for kind in scarce):
        return ""
    return f"the host is full: {_in_words(room)}"


def room_in_words(test: SmokeTest, cloud: Connection, state: ServerState) -> str:
    """For the error of a server that was placed nowhere: what the host has and what is needed; empty for others."""
    if not state.found_no_host:
        return ""
    return f" ({_in_words(computes.room_on(cloud, test.ctx.name))})"


def _in_words(room: Mapping[str, Room]) -> str:
    has = ", ".join(f"{kind} {room[kind].free}" if kind in room else f"{kind} unknown" for kind in smoke.SERVER_NEEDS)
    return f"it has free {has}; the test needs {', '.join(f'{kind} {n}' for kind, n in smoke.SERVER_NEEDS.items())}"
