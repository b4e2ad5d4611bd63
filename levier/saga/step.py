"""Steps: the smallest unit of work on one target, with its way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, Literal, TypeVar, overload

from levier.domain.errors import InvalidRequest, LevierError, NotFound, UndoFailed
from levier.domain.operation import JsonMap
from levier.domain.retry import RetryPolicy, treatment_of

C = TypeVar("C")


class Undo(Enum):
    """Undo declarations that need no function."""

    NO_EFFECT = "no effect"
    """The step changes nothing in the world: there is nothing to undo."""
    IRREVERSIBLE = "irreversible"
    """No way back: a forward retry, or the operation is held."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the log knows about a step, for its undo."""

    before: JsonMap
    """The state before the first attempt; empty when the step declares none."""
    outputs: JsonMap | None
    """None: the outcome is open, the step may or may not have done its work."""
    attempts: int


UndoFunction = Callable[[C, Checkpoint], JsonMap]


def _nothing(_ctx: object) -> JsonMap:
    return {}


@dataclass(frozen=True, slots=True)
class Step(Generic[C]):
    """A unit of work. Each function is safe to repeat, also after its process died anywhere inside it."""

    name: str
    """In kebab case; unique in its registry, stable between versions: it is what the log knows the step by."""
    title: str
    do: Callable[[C], JsonMap]
    """observe → return if already true → act → observe; returns the outputs, for later steps and the undo."""
    undo: UndoFunction[C] | Literal[Undo.NO_EFFECT, Undo.IRREVERSIBLE]
    """Ensures the earlier state, whatever the step came to."""
    before: Callable[[C], JsonMap] = _nothing
    """Observes the state before. Called once, before the first attempt: its result is in the log ever after."""
    retry: Mapping[type[LevierError], RetryPolicy] = field(default_factory=dict)
    """Overrides levier.domain.retry for some classes of errors."""
    needs_lease: bool = True
    """False for the steps that take and give back the node: their events are written whoever holds it."""
    needs: tuple[str, ...] = ()
    """The steps without whose outputs it cannot do, nor its undo: none of them can be skipped before it is done."""
    proof: Callable[[C], JsonMap] | None = None
    """Looks whether its undo holds, once everything is undone; changes nothing. What it returns is shown."""

    def __post_init__(self) -> None:
        if not (isinstance(self.undo, Undo) or callable(self.undo)):
            raise TypeError(f"step {self.name}: undo must be a function, NO_EFFECT or IRREVERSIBLE, not {self.undo!r}")
        if not self.name or self.name != self.name.lower() or " " in self.name:
            raise TypeError(f"step name {self.name!r} is not kebab case")

    def retry_policy(self, error: BaseException) -> RetryPolicy:
        """The policy for `error`: this step's for its most specific class, else the table's."""
        for kind in type(error).__mro__:
            if kind in self.retry:
                return self.retry[kind]
        return treatment_of(error).retry


Decorator = Callable[[Callable[[C], JsonMap]], Step[C]]
Retry = Mapping[type[LevierError], RetryPolicy]


@overload
def step(
    *,
    name: str,
    title: str,
    undo: UndoFunction[C],
    before: Callable[[C], JsonMap] = ...,
    retry: Retry | None = ...,
    needs_lease: bool = ...,
    needs: tuple[str, ...] = ...,
    proof: Callable[[C], JsonMap] | None = ...,
) -> Decorator[C]: ...


@overload
def step(
    *,
    name: str,
    title: str,
    undo: Literal[Undo.NO_EFFECT, Undo.IRREVERSIBLE],
    before: Callable[[C], JsonMap],
    retry: Retry | None = ...,
    needs_lease: bool = ...,
    needs: tuple[str, ...] = ...,
) -> Decorator[C]: ...


@overload
def step(
    *,
    name: str,
    title: str,
    undo: Literal[Undo.NO_EFFECT, Undo.IRREVERSIBLE],
    retry: Retry | None = ...,
    needs_lease: bool = ...,
    needs: tuple[str, ...] = ...,
) -> Decorator[C]: ...


def step(
    *,
    name: str,
    title: str,
    undo: UndoFunction[Any] | Literal[Undo.NO_EFFECT, Undo.IRREVERSIBLE],
    before: Callable[[Any], JsonMap] = _nothing,
    retry: Retry | None = None,
    needs_lease: bool = True,
    needs: tuple[str, ...] = (),
    proof: Callable[[Any], JsonMap] | None = None,
) -> Decorator[Any]:
    """The decorated function is the `do` of a Step. Without an undo declaration: TypeError, at import."""

    def decorate(do: Callable[[Any], JsonMap]) -> Step[Any]:
        return Step(
            name=name,
            title=title,
            do=do,
            undo=undo,
            before=before,
            retry=retry or {},
            needs_lease=needs_lease,
            needs=needs,
            proof=proof,
        )

    return decorate


def should_retry(step: Step[Any], error: BaseException, attempt: int) -> float | None:
    """Seconds to wait before trying again after attempt number `attempt` failed; None when it is not to be tried.

    For an UndoFailed it is the error of the undo that counts, and the table: a step's own policy is about its `do`.
    """
    if isinstance(error, UndoFailed) and error.undo_error is not None:
        policy = treatment_of(error.undo_error).retry
    else:
        policy = step.retry_policy(error)
    return None if attempt >= policy.attempts else policy.delay_before_s(attempt + 1)


class StepRegistry:
    """The steps of an installation, filled by its composition root; names are unique."""

    def __init__(self) -> None:
        self._steps: dict[str, Step[Any]] = {}

    def add(self, *steps: Step[Any]) -> None:
        """The steps are registered. Raises InvalidRequest when a name is taken by another step."""
        for each in steps:
            if self._steps.get(each.name, each) is not each:
                raise InvalidRequest(f"two steps are named {each.name}", hint="rename one: the log knows steps by name")
            self._steps[each.name] = each

    def get(self, name: str) -> Step[Any]:
        """The step. Raises NotFound: the log may name a step that this version does not have."""
        try:
            return self._steps[name]
        except KeyError:
            raise NotFound(
                f"this version of Levier has no step {name}",
                hint="finish the operation with the version that began it",
            ) from None

    def __iter__(self) -> Iterator[Step[Any]]:
        return iter(self._steps.values())

    def __len__(self) -> int:
        return len(self._steps)
