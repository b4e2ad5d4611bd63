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

    @property
    def last_seq(self) -> int:
        return len(self.events) + len(self.steps)

    @property
    def state(self) -> OperationState:
        return next(e.state for e in reversed(self.events) if e.state is not None)

    def add(self, kind: OperationEventKind, at: datetime, **rest: Any) -> None:
        self.events.append(OperationEvent(self.last_seq + 1, self.operation.id, kind, at, **rest))

    def fold(self, target: str | None) -> OperationStatus:
        if target is None:
            return fold_operation(self.operation, self.events, self.steps, expires=self.expires)
        part = replace(self.operation, plan=tuple(p for p in self.operation.plan if p.target == target))
        steps = [e for e in self.steps if e.target == target]
        return fold_operation(part, self.events, steps, expires=self.expires)


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

    # --- operations -------------------------------------------------------------------------------------------------

    def create(self, operation: Operation) -> Operation:
        for record in self.records.values():
            if operation.key and record.operation.key == operation.key:
                return record.operation
        stored = replace(operation, parameters=_stored(operation.parameters))
        if operation.id in self.records and self.records[operation.id].operation == stored:
            return operation
        if operation.id in self.records:
            raise Conflict(f"there already is an operation {operation.id}", hint="repeat: ids are random")
        record = self.records[operation.id] = Record(stored)
        planned = {"requested_by": operation.requested_by, "code_version": operation.code_version}
        record.add(OperationEventKind.STATE, operation.created, state=OperationState.PLANNED, detail=planned)
        return operation

    def status(self, operation_id: str, *, target: str | None = None) -> OperationStatus:
        return self._record(operation_id).fold(target)

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
        record = self._record(operation_id)
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
        record = self._hold(fence)
        if record.state is state:
            return
        check_operation_state(record.state, state, operation=fence.operation)
        record.add(OperationEventKind.STATE, at, state=state, detail=_stored(detail), worker=fence.worker)

    def request_cancel(self, operation_id: str, *, who: str, reason: str, at: datetime) -> None:
        record = self._record(operation_id)
        if record.state in SETTLED:
            raise Conflict(f"operation {operation_id} is {record.state}: there is nothing to cancel", hint="it is over")
        if open_cancel(record.events) is None:
            record.add(OperationEventKind.CANCEL_REQUESTED, at, detail={"who": who, "reason": reason})

    def cancel_requested(self, operation_id: str) -> JsonMap | None:
        return open_cancel(self._record(operation_id).events)

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
        record = self._hold(fence)
        earlier = record.keys.get(key)
        if isinstance(earlier, StepEvent):
            return earlier
        own = record.by_step[step, target]
        _check_planned(record.operation, step, target)
        check_step_event_in(record.state, kind, operation=fence.operation)
        check_step_event(fold_step(own).phase, kind, step=step, target=target)
        if needs_lease:
            self._refuse_other_holder(fence, target)
        stored = _stored(data)
        seq = record.last_seq + 1
        event = StepEvent(seq, fence.operation, step, target, kind, attempt, at, stored, fence.worker)
        record.steps.append(event)
        own.append(event)
        record.keys.update({key: event} if key else {})
        return event

    # --- leases -----------------------------------------------------------------------------------------------------

    def acquire_lease(self, fence: Fence, node: str, *, at: datetime, expires: datetime) -> Lease:
        self._hold(fence)
        self._refuse_other_holder(fence, node)
        lock = self.locks.setdefault(node, Lock())
        if lock.lease is None:
            lock.generation += 1
            lock.lease = Lease(node, fence.operation, lock.generation, fence.worker, at, expires)
        lock.lease = replace(lock.lease, worker=fence.worker, expires=expires)
        return lock.lease

    def release_lease(self, fence: Fence, node: str) -> None:
        self._hold(fence)
        lock = self.locks.get(node)
        if lock is not None and lock.lease is not None and lock.lease.operation == fence.operation:
            lock.lease = None

    def renew(self, fence: Fence, *, at: datetime, expires: datetime) -> None:
        self._hold(fence).expires = expires
        for lock in self._held_by(fence.operation):
            assert lock.lease is not None
            lock.lease = replace(lock.lease, expires=expires)

    def leases(self) -> tuple[Lease, ...]:
        held = (lock.lease for _, lock in sorted(self.locks.items()))
        return tuple(lease for lease in held if lease is not None)

    # --- conditions -------------------------------------------------------------------------------------------------

    def _record(self, operation_id: str) -> Record:
        if operation_id not in self.records:
            raise NotFound(f"there is no operation {operation_id}", hint="levier operation list shows them")
        return self.records[operation_id]

    def _hold(self, fence: Fence) -> Record:
        record = self._record(fence.operation)
        if record.generation != fence.generation:
            raise fence.lost()
        return record

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


def _stored(data: JsonMap) -> JsonMap:
    """What a database gives back."""
    stored: Callable[[str], JsonMap] = json.loads
    return stored(json.dumps(data))


if TYPE_CHECKING:
    _conforms: type[StepLog] = MemoryLog
