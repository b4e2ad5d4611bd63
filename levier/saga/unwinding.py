"""Which steps are to be undone, in which order, and whether that is possible at all."""

from __future__ import annotations

from levier.domain.operation import OperationStatus, StepStatus, UndoState
from levier.saga.step import StepRegistry, Undo


def unwind_plan(status: OperationStatus, target: str | None = None) -> tuple[tuple[str, str], ...]:
    """What to undo, as (step, target), last begun first; with `target`, of that target only.

    The failed, unknown or open step is among them: it may have acted. What an operator gave up on is not.
    """
    return tuple(
        (s.step, s.target)
        for s in reversed(status.stands)
        if target in (None, s.target) and s.undo is not UndoState.ABANDONED
    )


def irreversible_steps(
    status: OperationStatus, registry: StepRegistry, target: str | None = None
) -> tuple[StepStatus, ...]:
    """What stands and has no way back, in the order in which it began: with any of these, hold; undo nothing."""
    return tuple(
        s for s in status.stands if target in (None, s.target) and registry.get(s.step).undo is Undo.IRREVERSIBLE
    )
