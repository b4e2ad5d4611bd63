"""How one attempt at a step gets into the log: whatever it comes to, before anybody hears of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from levier.domain.errors import LeaseLost, LevierError, MalformedReply, OutcomeUnknown, StoreUnavailable
from levier.domain.operation import ErrorRecord, JsonMap, StepEventKind


@dataclass(frozen=True, slots=True)
class AttemptEntry:
    """Writes the events of one attempt at one step."""

    append: Callable[[StepEventKind, JsonMap], None]

    def append_after(self, error: BaseException, kind: StepEventKind) -> None:
        """The event is in the log; if that fails, the log's error is raised, with `error` as its cause."""
        try:
            self.append(kind, ErrorRecord.of(error).as_data())
        except LevierError as of_log:
            raise of_log from error

    def concluding(self, call: Callable[[], JsonMap], *, unknown: bool = True) -> JsonMap:
        """What `call` returns; whatever it raises is in the log first, as failed or (if `unknown` may be) unknown."""
        try:
            return as_json(call())
        except (LeaseLost, StoreUnavailable):
            raise  # fenced off, or nothing can be written: the outcome stays open
        except BaseException as error:
            kind = StepEventKind.UNKNOWN if unknown and _outcome_open(error) else StepEventKind.FAILED
            self.append_after(error, kind)
            raise


def _outcome_open(error: BaseException) -> bool:
    """Whether it may have happened all the same. A defect or an interruption says nothing about it, so it may."""
    return not isinstance(error, LevierError) or isinstance(error, OutcomeUnknown | MalformedReply)


def as_json(value: JsonMap) -> JsonMap:
    """What the log gives back for `value`, so that first run and replay see the same. TypeError if not JSON."""
    stored = json.loads(json.dumps(value, allow_nan=False))
    if not isinstance(stored, dict):
        raise TypeError(f"a step must return a mapping, not {type(value).__name__}")
    return stored
