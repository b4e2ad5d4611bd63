"""The fault matrix: every step of every sequence × every fault, derived from what is registered.

Nobody writes a case for a step: a step that is put into a sequence gets all of these.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from levier.domain.operation import OperationState
from levier.saga.step import Undo
from levier.services.context import NodeStep
from levier.services.steps.sequences import SEQUENCES
from tests.faults.worker import Deadly, Failing, Fault
from tests.integration.saga_faults import Kill

OFTEN = 99
"""More attempts than any policy grants."""


class Aftermath(StrEnum):
    """Who goes on after the fault."""

    NOBODY = "-"
    RECOVERY = "recovery"
    """Another worker does what the recovery plan says."""
    OPERATOR = "operator"
    """The cause is repaired and the operation rolled back on request."""


@dataclass(frozen=True, slots=True)
class FaultCase:
    """One fault at one step of one kind of operation, and what is right afterwards."""

    kind: str
    step: str
    fault: str
    faults: tuple[Fault, ...]
    expected: OperationState
    """The state in which the operation ends, before any aftermath by an operator."""
    begins_back: bool = False
    """The operation succeeds first; the fault is in its rollback."""
    aftermath: Aftermath = Aftermath.NOBODY

    def __str__(self) -> str:
        return f"{self.kind} {self.step}: {self.fault}"


def telling(case: FaultCase) -> bool:
    """One of the three faults that each find a mistake of their own: an undo that goes by what a step told instead of
    by what it did, and a step, or an undo, that another process cannot repeat after it was done and nobody knew.
    """
    if len(case.faults) > 1:
        return False
    (fault,) = case.faults
    if isinstance(fault, Deadly):
        return fault.kill in (Kill.BEFORE_COMMIT, Kill.BEFORE_UNDO_COMMIT)
    return (fault.times, fault.after, fault.undo) == (OFTEN, True, False)


def cases() -> tuple[FaultCase, ...]:
    """The whole matrix, in the order of sequences, steps and faults."""
    return tuple(case for kind, sequence in SEQUENCES.items() for step in sequence for case in faults_of(kind, step))


def everyday(cases: Iterable[FaultCase]) -> tuple[FaultCase, ...]:
    """What `make test` takes of the matrix: each step failed, repeated, killed around, and its undo failed.

    The telling faults, the step repeated, its undo that never succeeds. A step that an earlier sequence has, too, is
    left out: the same function would meet the same faults.
    """
    each, first = tuple(cases), dict[str, str]()
    for case in each:
        first.setdefault(case.step, case.kind)
    return tuple(
        case
        for case in each
        if first[case.step] == case.kind and (telling(case) or case.fault.startswith(("(b)", "(e)")))
    )


def faults_of(kind: str, step: NodeStep) -> Iterator[FaultCase]:
    """Every fault at this step of an operation of that kind."""
    yield from _failing_do(kind, step.name)
    yield from _killed_forward(kind, step.name)
    if not isinstance(step.undo, Undo):
        yield from _failing_undo(kind, step.name)
    yield from _killed_back(kind, step.name)


def _failing_do(kind: str, step: str) -> Iterator[FaultCase]:
    for after, when in ((False, "before acting"), (True, "after acting")):
        yield FaultCase(
            kind,
            step,
            f"(a) fails once, {when}",
            (Failing(step, 1, after, retryable=True),),
            OperationState.SUCCEEDED,
        )
        yield FaultCase(
            kind,
            step,
            f"(a) fails on every attempt, {when}",
            (Failing(step, OFTEN, after),),
            OperationState.ROLLED_BACK,
        )
    repeated = "(b) repeated after success"
    yield FaultCase(kind, step, repeated, (Failing(step, 0, after=False, repeat=True),), OperationState.SUCCEEDED)


def _failing_undo(kind: str, step: str) -> Iterator[FaultCase]:
    yield FaultCase(
        kind,
        step,
        "(c) undo repeated",
        (Failing(step, 0, after=False, undo=True, repeat=True),),
        OperationState.ROLLED_BACK,
        begins_back=True,
    )
    for after, when in ((False, "before acting"), (True, "after acting")):
        yield FaultCase(
            kind,
            step,
            f"(d) undo fails once, {when}",
            (Failing(step, 1, after, undo=True),),
            OperationState.ROLLED_BACK,
            begins_back=True,
        )
    yield FaultCase(
        kind,
        step,
        "(e) undo never succeeds",
        (Failing(step, OFTEN, after=True), Failing(step, OFTEN, after=False, undo=True)),
        OperationState.NEEDS_OPERATOR,
        aftermath=Aftermath.OPERATOR,
    )


def _killed_forward(kind: str, step: str) -> Iterator[FaultCase]:
    for kill in Kill:
        if not kill.while_undoing:
            yield FaultCase(
                kind,
                step,
                f"(f) killed {kill}",
                (Deadly(step, kill),),
                OperationState.SUCCEEDED,
                aftermath=Aftermath.RECOVERY,
            )


def _killed_back(kind: str, step: str) -> Iterator[FaultCase]:
    for kill in Kill:
        if kill.while_undoing:
            yield FaultCase(
                kind,
                step,
                f"(f) killed {kill}",
                (Deadly(step, kill),),
                OperationState.ROLLED_BACK,
                begins_back=True,
                aftermath=Aftermath.RECOVERY,
            )
