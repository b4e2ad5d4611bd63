"""How one attempt at a step gets into the log: whatever it comes to, before anybody hears of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

from levier.domain.errors import LeaseLost, LevierError, MalformedReply, OutcomeUnknown, StoreUnavailable
from levier.domain.operation import ErrorRecord, JsonMap, StepEventKind

Conceal = Callable[[str], str]
"""A text without what nobody may read in it."""


def as_it_is(text: str) -> str:
    """Nothing is concealed. Pure."""
    return text


@dataclass(frozen=True, slots=True)
class AttemptEntry:
    """Writes the events of one attempt at one step."""

    append: Callable[[StepEventKind, JsonMap], None]
    conceal: Conceal = as_it_is

    def append_after(self, error: BaseException, kind: StepEventKind) -> None:
        """The event is in the log; if that fails, the log's error is raised, with `error` as its cause.

        From here on neither the error nor those behind it say what is to be concealed.
        """
        # In place: whoever gets it next goes by its class, and prints it with all its causes.
        conceal_in(error, self.conceal)
        record = ErrorRecord.of(error)
        record = replace(record, message=self.conceal(record.message), hint=self.conceal(record.hint))
        try:
            self.append(kind, record.as_data())
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


def conceal_in(error: BaseException, conceal: Conceal) -> None:
    """No text of the error, nor of its causes, says what `conceal` takes out. Safe to repeat."""
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        each.args = tuple(conceal(arg) if isinstance(arg, str) else arg for arg in each.args)
        for name in ("message", "hint", "cause"):
            text = getattr(each, name, None)
            if isinstance(each, LevierError) and isinstance(text, str):
                setattr(each, name, conceal(text))
        waiting += [behind for behind in (each.__cause__, each.__context__) if behind is not None]


def _outcome_open(error: BaseException) -> bool:
    """Whether it may have happened all the same. A defect or an interruption says nothing about it, so it may."""
    return not isinstance(error, LevierError) or isinstance(error, OutcomeUnknown | MalformedReply)


def as_json(value: JsonMap) -> JsonMap:
    """What the log gives back for `value`, so that first run and replay see the same. TypeError if not JSON."""
    stored = json.loads(json.dumps(value, allow_nan=False))
    if not isinstance(stored, dict):
        raise TypeError(f"a step must return a mapping, not {type(value).__name__}")
    return stored
