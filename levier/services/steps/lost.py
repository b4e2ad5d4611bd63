"""Undos on a host that is given up anyway: an operation that wrote a host's disk ends by abandoning it."""

from __future__ import annotations

from collections.abc import Callable

from levier.domain.errors import OutcomeUnknown, Unreachable
from levier.domain.operation import JsonMap
from levier.saga.step import Checkpoint
from levier.services.context import NodeContext

NodeUndo = Callable[[NodeContext, Checkpoint], JsonMap]
_WROTE_THE_DISK = "write-image"


def unless_lost(undo: NodeUndo) -> NodeUndo:
    """As `undo`; but where the same operation wrote the host's disk, a host that does not answer is left as it is.

    It is powered off next, and its disk is written again before anybody uses it. A host that was there before is not:
    what stands on it stays somebody's business, so that error is raised.
    """

    def undone(ctx: NodeContext, checkpoint: Checkpoint) -> JsonMap:
        try:
            return undo(ctx, checkpoint)
        except (Unreachable, OutcomeUnknown) as error:
            if not ctx.outputs_if_any(_WROTE_THE_DISK):
                raise
            return {"changed": [], "note": f"the host does not answer and is given up: {error}"}

    return undone
