"""What the saga needs from a store: an append-only log that fenced-off workers cannot write to."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Protocol

from levier.domain.operation import (
    Fence,
    JsonMap,
    Lease,
    Operation,
    OperationState,
    OperationStatus,
    StepEvent,
    StepEventKind,
)


class StepLog(Protocol):
    """The log of all operations. Each method is one transaction and may raise StoreUnavailable.

    Methods that take a Fence write nothing and raise LeaseLost when it is not current any more; this is checked in the
    same transaction as the write, so that no other worker can take over in between.
    """

    def create(self, operation: Operation) -> Operation:
        """The operation is in the log, `planned`; returns it, or the one that was created with the same `key`.

        Safe to repeat. Raises Conflict when the id is taken by another operation.
        """
        ...

    def status(self, operation_id: str, *, target: str | None = None) -> OperationStatus:
        """The fold of the operation's log; with `target`, of the plan of that target only. Raises NotFound."""
        ...

    def statuses(
        self, *, states: Collection[OperationState] | None = None, limit: int | None = None
    ) -> tuple[OperationStatus, ...]:
        """The operations in one of `states` (None: all), newest first, at most `limit`."""
        ...

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
        """`worker` holds the operation and its leases until `expires`; every older Fence is dead.

        Safe to repeat with the same `key`: it is the same taking over. Raises NotFound, and Conflict for an operation
        that is over for good.
        """
        ...

    def is_current(self, fence: Fence) -> bool:
        """Whether nobody took over since `fence` was given."""
        ...

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
        """The event is committed, durably.

        Safe to repeat with the same `key`, as one does when the answer to a commit was lost: it returns the event that
        is there. Without a key it is another event.

        Raises Conflict when the event may not follow, and, if it `needs_lease`, when another operation holds the target
        as a node; InvalidRequest when the step is not in the plan.
        """
        ...

    def set_state(self, fence: Fence, state: OperationState, *, detail: JsonMap, at: datetime) -> None:
        """The operation is in `state`; nothing is written when it already was. Raises Conflict when it may not be."""
        ...

    def request_cancel(self, operation_id: str, *, who: str, reason: str, at: datetime) -> None:
        """The request is in the log; a repeat before it is answered adds none. Raises Conflict when it is settled."""
        ...

    def cancel_requested(self, operation_id: str) -> JsonMap | None:
        """The request not answered yet (`who`, `reason`)."""
        ...

    def acquire_lease(self, fence: Fence, node: str, *, at: datetime, expires: datetime) -> Lease:
        """The operation holds the node. Safe to repeat. Raises Conflict naming the operation that holds it."""
        ...

    def release_lease(self, fence: Fence, node: str) -> None:
        """The operation does not hold the node. Safe to repeat."""
        ...

    def renew(self, fence: Fence, *, at: datetime, expires: datetime) -> None:
        """The worker is seen to live: the operation and its leases count as held until `expires`."""
        ...

    def leases(self) -> tuple[Lease, ...]:
        """All leases held, by node."""
        ...
