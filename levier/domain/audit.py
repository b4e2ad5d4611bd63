"""Who decided what about an operation, when and why: read off its log, in order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from levier.domain.errors import InvalidRequest
from levier.domain.operation_log import (
    SETTLED,
    OperationEvent,
    OperationEventKind,
    OperationState,
    StepEvent,
    StepEventKind,
)

RECOVERY = "recovery"
"""Who ordered it, where that was no person but Levier's own recovery."""
PREFECT = "Prefect"
"""Who ordered it, where somebody used Prefect's UI or API, which do not say who that was."""


class OrderVerb(StrEnum):
    """What can be decided about an operation that exists; `cancel` has an event of its own."""

    RESUME = "resume"
    ROLLBACK = "rollback"
    ABANDON = "abandon"
    RECOVER = "recover"
    CLEAR_FAULT = "clear-fault"


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One decision, or one thing that followed from it."""

    seq: int
    at: datetime
    what: str
    """`order`, `cancel`, `resume`, `rollback`, `skip`, `abandon`, `recover`, `clear-fault`, `take-over` or `state`."""
    who: str
    """As the caller named themselves; `recovery`; `Prefect`; or the worker, `host:pid`."""
    why: str
    detail: str = ""


def required_reason(reason: str, *, verb: str) -> str:
    """`reason` without blanks around it. Raises InvalidRequest when nothing is left of it."""
    if not reason.strip():
        raise InvalidRequest(f"{verb} needs a reason", hint=f"say why, for whoever reads the audit: {verb} --reason …")
    return reason.strip()


def audit(operation_events: Iterable[OperationEvent], step_events: Iterable[StepEvent]) -> tuple[AuditEntry, ...]:
    """Every order, cancel, resume, skip, abandonment, take-over and state of an operation, in the order of its log."""
    entries = [_of_operation(e) for e in operation_events if e.kind is not OperationEventKind.OBSERVED]
    entries += [_of_skip(e) for e in step_events if e.kind is StepEventKind.SKIPPED]
    return tuple(sorted(entries, key=lambda e: e.seq))


def _of_operation(event: OperationEvent) -> AuditEntry:
    who, why = str(event.detail.get("who", event.worker)), str(event.detail.get("reason", ""))
    if event.kind is OperationEventKind.CANCEL_REQUESTED:
        return AuditEntry(event.seq, event.at, "cancel", who, why)
    if event.kind is OperationEventKind.ORDERED:
        known = {"verb", "who", "reason"}
        detail = ", ".join(f"{k} {_words(v)}" for k, v in event.detail.items() if k not in known)
        return AuditEntry(event.seq, event.at, str(event.detail.get("verb", "")), who, why, detail)
    if event.kind is OperationEventKind.TAKEN_OVER:
        run = event.detail.get("run")
        return AuditEntry(event.seq, event.at, "take-over", who, why, f"flow run {run}" if run else "")
    return _of_state(event, who, why)


def _of_state(event: OperationEvent, who: str, why: str) -> AuditEntry:
    if event.state is OperationState.PLANNED:
        by = str(event.detail.get("requested_by", "")) or "unknown"
        return AuditEntry(event.seq, event.at, "order", by, why, f"Levier {event.detail.get('code_version', '')}")
    state = str(event.state)
    return AuditEntry(event.seq, event.at, "state", who, why, f"ended: {state}" if event.state in SETTLED else state)


def _of_skip(event: StepEvent) -> AuditEntry:
    instead = f", instead of: {event.data['because']}" if event.data.get("because") else ""
    detail = f"{event.data.get('skipped', 'step')} {event.step} on {event.target}{instead}"
    return AuditEntry(event.seq, event.at, "skip", str(event.data.get("who")), str(event.data.get("reason")), detail)


def _words(value: object) -> str:
    return ", ".join(str(v) for v in value) if isinstance(value, list | tuple) else str(value)
