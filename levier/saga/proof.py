"""What an undone target is seen to be, once everything on it is undone: looked at, not presumed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from levier.domain.errors import LeaseLost, LevierError, StoreUnavailable
from levier.domain.operation import JsonMap, OperationStatus, StepStatus, UndoState
from levier.saga.attempt import Conceal, as_it_is
from levier.saga.step import StepRegistry

C = TypeVar("C")
Proof = Callable[[C], JsonMap]


def proofs_due(status: OperationStatus, registry: StepRegistry, target: str) -> tuple[Proof[Any], ...]:
    """Each look that the undone steps of `target` ask for, once. None while something stands, or after it was done."""
    seen = status.targets.get(target)
    if seen is None or seen.observed is not None or any(s.target == target for s in status.stands):
        return ()
    proofs = [registry.get(s.step).proof for s in _undone(status, target)]
    return tuple(dict.fromkeys(proof for proof in proofs if proof is not None))


def seen_by(proofs: Iterable[Proof[C]], ctx: C, conceal: Conceal = as_it_is) -> JsonMap:
    """What the proofs see, together; `problems` says what could not be seen, and why, without what `conceal` takes out.

    Raises LeaseLost, StoreUnavailable.
    """
    seen: dict[str, Any] = {}
    problems: list[str] = []
    for proof in proofs:
        try:
            seen |= proof(ctx)
        except (LeaseLost, StoreUnavailable):
            raise
        except LevierError as error:
            problems.append(conceal(f"{type(error).__name__}: {error}"))
    return {**seen, "problems": problems}


def states_before(status: OperationStatus, target: str) -> JsonMap:
    """What the undone steps of `target` found before they acted, the first one's word counting."""
    before: dict[str, Any] = {}
    for step in _undone(status, target):
        before = {**(step.before or {}), **before}
    return before


def _undone(status: OperationStatus, target: str) -> list[StepStatus]:
    """In the order in which they began."""
    undone = [s for s in status.steps if s.target == target and s.undo is UndoState.UNDONE]
    return sorted(undone, key=lambda s: s.first_seq)
