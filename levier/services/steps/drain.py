"""A host's work is taken off it before it goes: each of its components knows how (`drain` in component.yaml)."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from levier.domain.component import Command
from levier.domain.component_placement import components_of
from levier.domain.errors import Rejected
from levier.domain.operation import JsonMap
from levier.saga.step import Checkpoint
from levier.services.context import NodeContext
from levier.services.steps.host_command import last_words, run_command
from levier.services.steps.lost import unless_lost


def _drains(ctx: NodeContext) -> Iterator[tuple[str, Command]]:
    for component in components_of(ctx.site, ctx.node, ctx.cloud.components):
        if component.drain is not None and (command := ctx.cloud.rendered(ctx.site, ctx.name, component.name).drain):
            yield component.name, command


def _drained(ctx: NodeContext, _checkpoint: Checkpoint) -> JsonMap:
    drained = []
    for component, command in _drains(ctx):
        _drain(ctx, component, command)
        drained.append(component)
    return {"drained": drained}


drain_host = unless_lost(_drained)
"""No component of the host takes new work. Safe to repeat. Raises Rejected with what the component's command said.

A host that is given up takes none either: its services are down.
"""


def _drain(ctx: NodeContext, component: str, command: Command) -> None:
    result = run_command(ctx.own_host(), command, command.command)
    if result.exit_status:
        raise Rejected(
            f"{component} on {ctx.name} cannot be drained: status {result.exit_status}: {last_words(result)}",
            hint=f"on {ctx.name}: {shlex.join(command.command)}; then resume the operation",
        )
