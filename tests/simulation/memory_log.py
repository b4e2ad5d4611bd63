"""The step log in memory, for the simulation: the same contract as SqlStepLog, without a database.

That it is the same is shown by tests/integration/test_step_log_contract.py, call by call.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from levier.domain.errors import Conflict, InvalidRequest, NotFound
from levier.domain.operation import (
    FINAL,
    SETTLED,
    Fence,
    JsonMap,
    Lease,
    Operation,
    OperationEvent,
    OperationEventKind,
    OperationState,
    OperationStatus,
    StepEvent,
    StepEventKind,
    check_operation_state,
    check_step_event,
    check_step_event_in,
    fold_operation,
    fold_step,
    open_cancel,
)

if TYPE_CHECKING:
    from levier.saga.log import StepLog


@dataclass
class Record:
    """An operation with its log."""

    operation: Operation
    generation: int = 0
    worker: str = ""
    expires: datetime | None = None
    events: list[OperationEvent] = field(default_factory=list)
    steps: list[StepEvent] = field(default_factory=list)
    by_step: dict[tuple[str, str], list[StepEvent]] = field(default_factory=lambda: defaultdict(list))
    keys: dict[str, StepEvent | Fence] = field(default_factory=dict)
    folded: dict[str | None, tuple[tuple[int, int], OperationStatus]] = field(default_factory=dict)

    @property
    def last_seq(self) -> int:
        return len(self.events) + len(self.steps)

    @property
    def state(self) -> OperationState:
        return next(e.state for e in reversed(self.events) if e.state is not None)

    def add(self, kind: OperationEventKind, at: datetime, **rest: Any) -> None:
        self.events.append(OperationEvent(self.last_seq + 1, self.operation.id, kind, at, **rest))

    def check_step(self, event: StepEvent) -> None:
        """The event is one of the plan and may follow."""
        _check_planned(self.operation, event.step, event.target)
        check_step_event_in(self.state, event.kind, operation=self.operation.id)
        phase = fold_step(self.by_step[event.step, event.target]).phase
        check_step_event(phase, event.kind, step=event.step, target=event.target)

    def add_step(self, event: StepEvent) -> None:
        self.steps.append(event)
        self.by_step[event.step, event.target].append(event)

    def fold(self, target: str | None) -> OperationStatus:
        """The fold, made anew only when the log has grown: the simulation asks for it all the time."""
        steps = [e for e in self.steps if target in (None, e.target)]
        length, known = self.folded.get(target, ((-1, -1), None))
        if known is None or length != (len(self.events), len(steps)):
            plan = tuple(p for p in self.operation.plan if target in (None, p.target))
            known = fold_operation(replace(self.operation, plan=plan), self.events, steps)
            self.folded[target] = ((len(self.events), len(steps)), known)
        return replace(known, expires=self.expires)


@dataclass
class Lock:
    """A node's lock; it outlives its holder, because the generation only grows."""

    generation: int = 0
    lease: Lease | None = None


class MemoryLog:
    """levier.saga.log.StepLog in this process's memory; the contracts are stated there."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.locks: dict[str, Lock] = {}
        self.book: list[StepEvent] = []
        """The events of all operations' steps, in the order in which they were written."""

    # --- operations -------------------------------------------------------------------------------------------------

    def create(self, operation: Operation) -> Operation:
        for record in self.records.values():
            if operation.key and record.operation.key == operation.key:
                return record.operation
        kept = replace(operation, parameters=stored(operation.parameters))
        if operation.id in self.records and self.records[operation.id].operation == kept:
            return operation
        if operation.id in self.records:
            raise Conflict(f"there already is an operation {operation.id}", hint="repeat: ids are random")
        record = self.records[operation.id] = Record(kept)
        planned = {"requested_by": operation.requested_by, "code_version": operation.code_version}
        record.add(OperationEventKind.STATE, operation.created, state=OperationState.PLANNED, detail=planned)
        return operation

    def status(self, operation_id: str, *, target: str | None = None) -> OperationStatus:
        return self.record(operation_id).fold(target)

    def statuses(
        self, *, states: Collection[OperationState] | None = None, limit: int | None = None
    ) -> tuple[OperationStatus, ...]:
        wanted = [r for r in self.records.values() if states is None or r.state in states]
        by_id = sorted(wanted, key=lambda r: r.operation.id)
        newest = sorted(by_id, key=lambda r: r.operation.created, reverse=True)
        return tuple(r.fold(None) for r in newest[:limit])

    def take_over(
        self,
        operation_id: str,
        *,
        worker: str,
        run: str,
        code_version: str,
        at: datetime,
        expires: datetime,
        key: str = "",
    ) -> Fence:
        record = self.record(operation_id)
        earlier = record.keys.get(key)
        if isinstance(earlier, Fence):
            return earlier
        if record.state in FINAL:
            raise Conflict(f"operation {operation_id} is {record.state}: it is over", hint="start another one")
        record.generation += 1
        record.worker, record.expires = worker, expires
        for lock in self._held_by(operation_id):
            lock.generation += 1
            assert lock.lease is not None
            lock.lease = replace(lock.lease, generation=lock.generation, worker=worker, expires=expires)
        detail = {"generation": record.generation, "run": run, "code_version": code_version}
        record.add(OperationEventKind.TAKEN_OVER, at, detail=detail, worker=worker)
        fence = Fence(operation=operation_id, generation=record.generation, worker=worker)
        record.keys.update({key: fence} if key else {})
        return fence

    def is_current(self, fence: Fence) -> bool:
        record = self.records.get(fence.operation)
        return record is not None and record.generation == fence.generation

    def set_state(self, fence: Fence, state: OperationState, *, detail: JsonMap, at: datetime) -> None:
        record = self.hold(fence)
        if record.state is state:
            return
        check_operation_state(record.state, state, operation=fence.operation)
        record.add(OperationEventKind.STATE, at, state=state, detail=stored(detail), worker=fence.worker)

    def request_cancel(self, operation_id: str, *, who: str, reason: str, at: datetime) -> None:
        record = self.record(operation_id)
        if record.state in SETTLED:
            raise Conflict(f"operation {operation_id} is {record.state}: there is nothing to cancel", hint="it is over")
        if open_cancel(record.events) is None:
            record.add(OperationEventKind.CANCEL_REQUESTED, at, detail={"who": who, "reason": reason})

    def cancel_requested(self, operation_id: str) -> JsonMap | None:
        return open_cancel(self.record(operation_id).events)

    # --- steps ------------------------------------------------------------------------------------------------------

    def append(
        self,
        fence: Fence,
        *,
        step: str,
        target: str,
        kind: StepEventKind,
        attempt: int,
        at: datetime,
        data: JsonMap,
        needs_lease: bool = True,
        key: str = "",
    ) -> StepEvent:
        record = self.hold(fence)
        earlier = record.keys.get(key)
        if isinstance(earlier, StepEvent):
            return earlier
        seq = record.last_seq + 1
        event = StepEvent(seq, fence.operation, step, target, kind, attempt, at, stored(data), fence.worker)
        record.check_step(event)
        if needs_lease:
            self._refuse_other_holder(fence, target)
        record.add_step(event)
        self.book.append(event)
        record.keys.update({key: event} if key else {})
        return event

    # --- leases -----------------------------------------------------------------------------------------------------

    def acquire_lease(self, fence: Fence, node: str, *, at: datetime, expires: datetime) -> Lease:
        self.hold(fence)
        self._refuse_other_holder(fence, node)
        lock = self.locks.setdefault(node, Lock())
        if lock.lease is None:
            lock.generation += 1
            lock.lease = Lease(node, fence.operation, lock.generation, fence.worker, at, expires)
        lock.lease = replace(lock.lease, worker=fence.worker, expires=expires)
        return lock.lease

    def release_lease(self, fence: Fence, node: str) -> None:
        self.hold(fence)
        lock = self.locks.get(node)
        if lock is not None and lock.lease is not None and lock.lease.operation == fence.operation:
            lock.lease = None

    def renew(self, fence: Fence, *, at: datetime, expires: datetime) -> None:
        self.hold(fence).expires = expires
        for lock in self._held_by(fence.operation):
            assert lock.lease is not None
            lock.lease = replace(lock.lease, expires=expires)

    def leases(self) -> tuple[Lease, ...]:
        held = (lock.lease for _, lock in sorted(self.locks.items()))
        return tuple(lease for lease in held if lease is not None)

    # --- conditions -------------------------------------------------------------------------------------------------

    def record(self, operation_id: str) -> Record:
        if operation_id not in self.records:
            raise NotFound(f"there is no operation {operation_id}", hint="levier operation list shows them")
        return self.records[operation_id]

    def hold(self, fence: Fence) -> Record:
        record = self.record(fence.operation)
        if record.generation != fence.generation:
            raise fence.lost()
        return record

    def free(self, operation_id: str) -> None:
        """The operation holds no node."""
        for lock in self._held_by(operation_id):
            lock.lease = None

    def _held_by(self, operation_id: str) -> list[Lock]:
        return [lk for lk in self.locks.values() if lk.lease is not None and lk.lease.operation == operation_id]

    def _refuse_other_holder(self, fence: Fence, node: str) -> None:
        lock = self.locks.get(node)
        if lock is not None and lock.lease is not None and lock.lease.operation != fence.operation:
            holder = lock.lease.operation
            raise Conflict(f"node {node} is held by operation {holder}", hint=f"levier operation show {holder}")


def _check_planned(operation: Operation, step: str, target: str) -> None:
    if not any((p.step, p.target) == (step, target) for p in operation.plan):
        raise InvalidRequest(f"operation {operation.id} has no step {step} on {target} in its plan", hint="")


def stored(data: JsonMap) -> JsonMap:
    """What a database gives back."""
    stored: Callable[[str], JsonMap] = json.loads
    return stored(json.dumps(data))


if TYPE_CHECKING:
    _conforms: type[StepLog] = MemoryLog
