"""An operation as JSON: what the API answers and the command line shows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from levier.domain.install_plan import SMOKE_TEST
from levier.domain.operation import (
    SETTLED,
    JsonMap,
    OperationState,
    OperationStatus,
    StepState,
    StepStatus,
    TargetStatus,
    UndoState,
)
from levier.saga.verbs import left_behind


def as_map(status: OperationStatus, *, steps: bool) -> dict[str, Any]:
    """The operation in plain JSON types; with `steps`, each of them too. Pure."""
    shown: dict[str, Any] = {
        "id": status.id,
        "kind": status.kind,
        "state": status.state.value,
        "targets": list(status.operation.targets),
        "revision": status.operation.parameters.get("revision"),
        "code_version": status.operation.code_version,
        "requested_by": status.operation.requested_by,
        "created": status.operation.created.isoformat(),
        "started": status.started.isoformat() if status.started else None,
        "finished": status.finished.isoformat() if status.finished else None,
        "error": status.error,
        "abandoned": bool(status.state_detail.get("abandoned")),
        "cancel_requested": dict(status.cancel_requested) if status.cancel_requested is not None else None,
        "hint": _hint(status),
        "outcomes": {name: _outcome(target) for name, target in status.targets.items()},
        "observed": {name: dict(t.observed) for name, t in status.targets.items() if t.observed is not None},
        "safe_state": _safe_state(status),
    }
    if steps:
        shown["steps"] = [_step(step) for step in status.steps]
        shown["stands"] = [f"{step.step} {step.target}" for step in status.stands]
    return shown


def _hint(status: OperationStatus) -> str | None:
    """The way out of what failed: of the undo that failed, else of the step that failed first."""
    failed = [s.undo_error for s in status.steps if s.undo_error] + [s.error for s in status.steps if s.error]
    return next((error.hint for error in failed if error is not None and error.hint), None)


def _outcome(target: TargetStatus) -> str:
    return f"{target.outcome.value}: {target.error}" if target.error else target.outcome.value


def _step(step: StepStatus) -> dict[str, Any]:
    error = step.undo_error or step.error
    return {
        "step": step.step,
        "target": step.target,
        "state": step.state.value,
        "attempts": step.attempts,
        "duration_s": step.duration_s,
        "undo": step.undo.value,
        "stage": step.wave,
        "changed": (step.outputs or {}).get("changed"),
        "result": dict(step.outputs) if step.outputs is not None and step.step in SMOKE_TEST else None,
        "skipped": dict(step.skipped) if step.skipped is not None else None,
        "error": f"{error.error}: {error.message}" if error else None,
        "hint": error.hint if error else None,
        "started": step.started.isoformat() if step.started else None,
    }


def _all_seen(targets: Iterable[TargetStatus]) -> str:
    """The undone targets as they were seen, those together of which the same was seen."""
    alike: dict[str, list[TargetStatus]] = defaultdict(list)
    for target in targets:
        alike[_seen(target)].append(target)
    return "; ".join(f"{', '.join(t.target for t in group)}: {words}{_times(group)}" for words, group in alike.items())


def _times(group: Iterable[TargetStatus]) -> str:
    times = sorted(str(t.observed["at"])[11:19] for t in group if t.observed is not None)
    if not times:
        return ""
    return f" (seen {times[0]} UTC)" if times[0] == times[-1] else f" (seen {times[0]} to {times[-1]} UTC)"


def _seen(target: TargetStatus) -> str:
    """An undone target as it was seen when everything on it was undone."""
    seen = target.observed
    if seen is None:
        return "no machine was touched"
    said = [_power(seen)] if "power" in seen else []
    if "boot_entry" in seen:
        said.append("a boot entry STILL stands" if seen["boot_entry"] else "no boot entry")
    if "address" in seen:
        said.append(f"address {seen['address']} STILL held" if seen["address"] else "no address held")
    return ", ".join([*said, *(f"NOT SEEN: {problem}" for problem in seen.get("problems", ()))])


def _power(seen: JsonMap) -> str:
    before = seen.get("power_before")
    if before is None:
        return f"power {seen['power']}"
    return f"power {seen['power']}, " + ("as before" if before == seen["power"] else f"it was {before} before")


def _safe_state(status: OperationStatus) -> str:
    """In words, what an operator may rely on now that the operation has ended; empty while it runs."""
    if status.state not in SETTLED:
        return ""
    if not status.stands:
        undone = sorted({s.target for s in status.steps if s.undo is UndoState.UNDONE})
        return _all_seen([status.targets[name] for name in undone]) or "nothing was done"
    if status.state is OperationState.SUCCEEDED:
        return ""
    open_steps = [f"{s.step} on {s.target}" for s in status.stands if s.state is not StepState.SUCCEEDED]
    if status.state_detail.get("abandoned"):
        left = "; ".join(f"{', '.join(steps)} on {node}" for node, steps in left_behind(status))
        return f"nobody looks after what stands: {left}" if left else ""
    return f"stands: {len(status.stands)} steps" + (f"; open: {', '.join(open_steps)}" if open_steps else "")
