"""Holding a node: the step that every operation begins with."""

from __future__ import annotations

from levier.domain.operation import JsonMap
from levier.saga.step import Checkpoint, step
from levier.services.context import NodeContext


def _release(ctx: NodeContext, checkpoint: Checkpoint) -> JsonMap:
    """The lease stays until everything else is undone: the flow releases it after the last undo, not here.

    Releasing inside the undo would leave the `undone` event without the lease that fences it.
    """
    return {"released": "with the operation"}


@step(name="acquire-lease", title="Hold the node for this operation", undo=_release, needs_lease=False)
def acquire_lease(ctx: NodeContext) -> JsonMap:
    """This operation holds the node's lease. Safe to repeat. Raises Conflict naming the operation that holds it."""
    return {"generation": ctx.hold(), "changed": []}
