"""A host's work is taken off it before it goes: each of its components knows how (`drain` in component.yaml)."""

from __future__ import annotations

import shlex

from levier.domain.component import Component
from levier.domain.component_placement import components_of
from levier.domain.errors import Rejected
from levier.domain.operation import JsonMap
from levier.saga.step import Checkpoint
from levier.services.components.commands import shell_script
from levier.services.context import NodeContext
from levier.services.steps.lost import unless_lost

_LAST_CHARACTERS = 500


def _drained(ctx: NodeContext, _checkpoint: Checkpoint) -> JsonMap:
    own = components_of(ctx.site, ctx.node, ctx.cloud.components)
    draining = [component for component in own if component.drain is not None]
    for component in draining:
        _drain(ctx, component)
    return {"drained": [component.name for component in draining]}


drain_host = unless_lost(_drained)
"""No component of the host takes new work. Safe to repeat. Raises Rejected with what the component's command said.

A host that is given up takes none either: its services are down.
"""


def _drain(ctx: NodeContext, component: Component) -> None:
    command = ctx.cloud.rendered(ctx.site, ctx.name, component.name).drain
    assert command is not None  # noqa: S101 - its caller asks
    script = shell_script(command.command, user=command.user, environment_file=command.environment_file)
    result = ctx.own_host().run(script, timeout_s=command.timeout_s, check=False)
    if result.exit_status:
        words = (result.stderr.strip() or result.stdout.strip())[-_LAST_CHARACTERS:]
        raise Rejected(
            f"{component.name} on {ctx.name} cannot be drained: status {result.exit_status}: {words}",
            hint=f"on {ctx.name}: {shlex.join(command.command)}; then resume the operation",
        )
