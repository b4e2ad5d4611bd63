"""What must hold of every history, whatever goes wrong in it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from levier.domain.operation import (
    FINAL,
    SETTLED,
    OperationState,
    OperationStatus,
    StepEventKind,
    StepState,
    StepStatus,
    TargetOutcome,
    UndoState,
)
from levier.saga.engine import LEASE_S
from levier.saga.recovery import RecoveryVerb, RunState, plan_recovery
from tests.simulation.kernel import Violation
from tests.simulation.scenario import Blow

if TYPE_CHECKING:
    from tests.simulation.history import History
    from tests.simulation.orchestrator import Run

FACETS = {
    "mark-deploying": "record",
    "allocate-address": "address",
    "create-key": "key",
    "power-off": "power",
    "publish-entry": "entry",
    "set-boot": "boot",
    "power-on": "power",
    "write-image": "disk",
    "boot-host": "host",
    "withdraw-entry": "entry",
    "wipe-tpm": "tpm",
    "configure": "config",
    "mark-ready": "record",
}
GOOD_ENDS = {OperationState.SUCCEEDED, OperationState.ROLLED_BACK, OperationState.CANCELLED}


def check_takeover(history: History, run: Run) -> None:
    """Nobody replaces a worker that is alive and heard of, unless it is to be undone instead."""
    now_s = history.kernel.now_s
    for worker in history.workers:
        record = history.log.records[worker.operation]
        present = worker.fence.generation == record.generation and worker.operation == run.operation
        lives = worker.process.alive and not worker.process.ended and worker.process.resumes_at <= now_s
        heard = now_s - worker.seen_alive_s < LEASE_S / 2
        if present and lives and heard and run.kind != "rollback":
            history.kernel.violate(f"{worker.process.name} is alive and is replaced")


def check_rest(history: History) -> None:
    """At rest: every operation is settled, what it says is true, and nothing is left that it does not say."""
    statuses = [history.log.status(name) for name in history.log.records]
    for status in statuses:
        _check_settled(history, status)
        _check_leases(history, status)
        _check_images(history, status)
        _check_run(history, status)
        _check_doubles(history, status)
        _check_stages(history, status)
    _check_success(history, statuses)
    _check_world(history, statuses)
    _check_recovery(history, statuses)


def _require(condition: bool, promise: str) -> None:
    if not condition:
        raise Violation(promise)


def _check_settled(history: History, status: OperationStatus) -> None:
    _require(status.state in SETTLED, f"{status.id} is {status.state} at rest")
    outcomes = {name: target.outcome for name, target in status.targets.items()}
    if status.state is OperationState.SUCCEEDED:
        _require(set(outcomes.values()) == {TargetOutcome.READY}, f"{status.id} succeeded, but {outcomes}")
    abandoned = bool(status.state_detail.get("abandoned"))
    if status.state in FINAL and not abandoned:
        left = tuple(s for s in status.steps if s.acted and s.undo is not UndoState.UNDONE)
        _require(not left, f"{status.id} is {status.state}, but {_named(left)} stands")
    if status.state is OperationState.NEEDS_OPERATOR:
        for step in status.steps:
            if step.undo in (UndoState.FAILED, UndoState.ABANDONED):
                _require(step.step in (status.error or ""), f"{status.id} does not name {step.step} as not undone")


def _check_leases(history: History, status: OperationStatus) -> None:
    held = {lease.node for lease in history.log.leases() if lease.operation == status.id}
    if status.state in GOOD_ENDS:
        _require(not held, f"{status.id} is {status.state} and still holds {held}")
    for name in held:
        stands = [s for s in status.stands if s.target == name]
        _require(bool(stands), f"{status.id} holds {name}, where nothing of it stands")


def _check_images(history: History, status: OperationStatus) -> None:
    record = history.log.records[status.id]
    for target in status.targets:
        undone = sum(1 for e in record.steps if (e.step, e.target, e.kind.value) == ("write-image", target, "undone"))
        written = history.world.images[status.id, target]
        _require(written <= undone + 1, f"{written} image writes on {target}, {undone} of them undone")


def _check_doubles(history: History, status: OperationStatus) -> None:
    """No event is in the log twice: each attempt begins once and ends once, in each round."""
    seen: set[tuple[object, ...]] = set()
    rounds: Counter[tuple[str, str]] = Counter()
    for event in history.log.records[status.id].steps:
        place = (event.step, event.target)
        entry = (*place, event.kind, event.attempt, rounds[place])
        doubled = entry in seen and event.kind is not StepEventKind.SKIPPED
        _require(not doubled, f"{event.step} on {event.target}: `{event.kind}` of attempt {event.attempt} twice")
        seen.add(entry)
        rounds[place] += event.kind is StepEventKind.UNDONE


def _check_stages(history: History, status: OperationStatus) -> None:
    """No stage is begun before what it is built on is there, and none is undone under what is built on it."""
    operation = status.operation
    if not operation.staged:
        return
    stage = {(p.step, p.target): p.wave for p in operation.plan}
    under = {place: number for place, number in stage.items() if place[1] in operation.pillars}
    done, standing = set[tuple[str, str]](), set[tuple[str, str]]()
    for event in history.log.records[status.id].steps:
        place = (event.step, event.target)
        if event.kind is StepEventKind.STARTED:
            lacking = [name for name, number in under.items() if number < stage[place] and name not in done]
            _require(not lacking, f"{event.step} on {event.target} began before {lacking}")
            standing.add(place)
        elif event.kind is StepEventKind.UNDO_STARTED and place in under:
            above = [each for each in standing if stage[each] > stage[place]]
            _require(not above, f"{event.step} on {event.target} is undone under {above}")
        elif event.kind is StepEventKind.SUCCEEDED:
            done.add(place)
        elif event.kind is StepEventKind.UNDONE:
            standing.discard(place)
            done.discard(place)
        elif event.kind is StepEventKind.SKIPPED:  # a person answers for it
            standing.discard(place)
            done.add(place)


def _check_success(history: History, statuses: list[OperationStatus]) -> None:
    """Kills, stops and outages alone make nothing fail: without a machine's fault or a person's word all succeeds."""
    plan = history.scenario
    undisturbed = (
        not (plan.faults or plan.cancels or plan.verdicts) and plan.addresses >= plan.nodes and len(plan.orders) == 1
    )
    if not undisturbed or any(i.blow is Blow.UI_CANCEL for i in plan.interruptions):
        return
    for status in statuses:
        _require(status.state is OperationState.SUCCEEDED, f"nothing failed, and {status.id} is {status.state}")


def _check_run(history: History, status: OperationStatus) -> None:
    """The operation's last flow run and the operation tell the same."""
    run = history.prefect.runs.get(status.run)
    if run is None or status.state_detail.get("abandoned") or run.state is RunState.CANCELLED or run.forgotten:
        return  # whoever cancels a run that has just done its work gets a cancelled run
    good = status.state in GOOD_ENDS
    _require(run.state.ended, f"{run.id} is {run.state}, {status.id} is {status.state}")
    _require((run.state is RunState.COMPLETED) == good, f"{run.id} is {run.state}, {status.id} is {status.state}")


def _check_recovery(history: History, statuses: list[OperationStatus]) -> None:
    runs = {run.id: run.state for run in history.prefect.runs.values()}
    actions = plan_recovery(statuses, now=history.kernel.clock(), runs=runs, code_version="1.0.0")
    _require({a.verb for a in actions} <= {RecoveryVerb.LEAVE}, f"recovery finds work at rest: {actions}")


# --- the world -------------------------------------------------------------------------------------------------------


def _check_world(history: History, statuses: list[OperationStatus]) -> None:
    """Each facet of each node is as the logs say; what is not as before is covered by a step that stands."""
    for node, facets in history.world.nodes.items():
        expected = {facet: {value} for facet, value in history.world.before[node].items()}
        for step, operation in _in_order(history, node):
            _apply(expected, step, operation, history)
        if any((e.step, e.target, e.kind.value) == ("write-image", node, "undone") for e in history.log.book):
            expected["disk"].add("nobody's")  # also when the step was skipped after that, and counts as not begun
        for facet, value in facets.items():
            allowed = expected[facet]
            _require(value in allowed, f"{node}: {facet} is {value or '-'}, the log says {sorted(allowed)}")


def _in_order(history: History, node: str) -> list[tuple[StepStatus, str]]:
    """What stands, or was undone, on the node, in the order in which it happened across operations."""
    places = {(e.operation, e.seq): place for place, e in enumerate(history.log.book)}
    found = [
        (places[name, step.first_seq], step, name)
        for name, record in history.log.records.items()
        for step in record.fold(None).steps
        if step.target == node and step.acted
    ]
    return [(step, name) for _, step, name in sorted(found, key=lambda each: each[0])]


def _apply(expected: dict[str, set[str]], step: StepStatus, operation: str, history: History) -> None:
    facet = FACETS.get(step.step)
    if facet is None or step.undo is UndoState.UNDONE:
        # Two undos bring nothing back: a disk's content, and an entry that was withdrawn.
        left = {"write-image": {"nobody's"}, "withdraw-entry": {""}}.get(step.step, set())
        if facet is not None:
            expected[facet] = expected[facet] | left
        return
    after = _after(step, operation, history)
    settled = step.state is StepState.SUCCEEDED and step.undo is UndoState.NONE
    # Its outcome is open, or its undo was not finished: as before, or as it wanted, or on the way back.
    open_values = expected[facet] | after | ({"nobody's"} if facet == "disk" else set()) | {""}
    expected[facet] = after if settled else open_values


def _after(step: StepStatus, operation: str, history: History) -> set[str]:
    if step.step == "allocate-address":
        return {str((step.outputs or {}).get("address"))} if step.outputs else _own_addresses(history, operation)
    return {
        {
            "mark-deploying": f"deploying by {operation}",
            "create-key": f"of {operation}",
            "power-off": "off",
            "publish-entry": operation,
            "set-boot": "network",
            "power-on": "on",
            "write-image": f"image of {operation}",
            "boot-host": operation,
            "withdraw-entry": "",
            "wipe-tpm": "empty",
            "configure": f"of {operation}",
            "mark-ready": "ready",
        }[step.step]
    }


def _own_addresses(history: History, operation: str) -> set[str]:
    return {f"a{number} of {operation}" for number in range(history.scenario.addresses)}


def _named(steps: tuple[StepStatus, ...]) -> str:
    return ", ".join(f"{s.step} on {s.target}" for s in steps)
