"""One worker carrying out one operation: it holds the fence, keeps it alive, and runs or undoes single steps."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import ParamSpec, TypeVar

import structlog

from levier.domain.errors import Cancelled, LeaseLost, StoreUnavailable
from levier.domain.operation import (
    SETTLED,
    Fence,
    JsonMap,
    OperationEventKind,
    OperationState,
    OperationStatus,
    Settlement,
)
from levier.saga.engine import Saga
from levier.saga.proof import proofs_due, seen_by, states_before
from levier.saga.step import Step, StepRegistry, Undo
from levier.saga.store_patience import StorePatience
from levier.saga.verbs import Verbs
from levier.services.context import NodeContext, NodeDrivers, OperationTerms
from levier.services.provisioning import Provisioning

P = ParamSpec("P")
T = TypeVar("T")
WRITABLE_S = 1.0
"""How long a write proves that the log can be written."""
RENEW_AGAIN_S = 1.0
"""After a renewal that failed: once the database is back, nobody is to take this worker for dead."""
CANCEL_LOOK_S = 0.5
"""Between two looks for a request to cancel, by steps that wait."""
log = structlog.get_logger()


class OperationRun:
    """The present worker's hold on an operation. Methods block; `call` runs them in threads of its own.

    While the database is away every method waits for it; `tell` gets a line about that. Closing ends the waiting.
    """

    def __init__(
        self,
        saga: Saga,
        verbs: Verbs,
        registry: StepRegistry,
        services: Provisioning,
        terms: OperationTerms,
        *,
        run: str,
        tell: Callable[[str], None] = log.warning,
    ) -> None:
        self._stop = threading.Event()
        patience = StorePatience(wait=self._stop.wait, tell=tell)
        self.terms = terms
        self._verbs = verbs
        self._patience = patience
        self.registry = registry
        self._run = run
        self._impatient = saga
        self._saga = saga.patient(patience)
        self._services = services.patient(patience)
        self._fence: Fence = self._saga.begin(terms.operation, worker=f"{socket.gethostname()}:{os.getpid()}", run=run)
        self._written = 0.0
        self._contexts: dict[str, NodeContext] = {}
        self._lock = threading.Lock()
        self._cancel = _CancelFlag(self.cancel_requested)
        self._pool = ThreadPoolExecutor(max_workers=64, thread_name_prefix="step")
        self._heart = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._heart.start()

    @property
    def operation(self) -> str:
        """The operation's id."""
        return self.terms.operation

    @property
    def flow_run(self) -> str:
        """The id of the flow run whose process this is."""
        return self._run

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `function` returned; it ran in the operation's pool, since it may block on the store or a machine."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(function, *args, **kwargs))

    def status(self, target: str | None = None) -> OperationStatus:
        """The fold of the operation's log. Safe to repeat."""
        return self._saga.status(self.operation, target=target)

    def set_state(self, state: OperationState, reason: str = "") -> None:
        """The operation is in `state`. Safe to repeat. Raises Conflict when it may not be."""
        self._saga.set_state(self._fence, state, {"reason": reason} if reason else {})

    def cancel_requested(self) -> bool:
        """Somebody asked for the operation to be stopped and undone. Safe to repeat."""
        return self._saga.cancel_requested(self.operation)

    def do(self, step: Step[NodeContext], node: str) -> JsonMap:
        """One attempt at `step`; recorded outputs without acting if it was done before. Raises what the step raises.

        None once somebody wants the operation stopped: Cancelled is raised, also before a further attempt.
        """
        self.check()
        return self._saga.run(self._fence, step, replace(self._context(node), step=step), target=node)

    def undo(self, step: Step[NodeContext], node: str) -> None:
        """One attempt at the undo of `step`. Raises UndoFailed."""
        self._saga.undo(self._fence, step, replace(self._context(node), step=step), target=node)

    @staticmethod
    def acts_on_undo(step: Step[NodeContext]) -> bool:
        """The step has an undo function, so that its undo is worth showing as a task of its own."""
        return not isinstance(step.undo, Undo)

    def hold(self, node: str) -> int:
        """The operation holds the node. Safe to repeat. Raises Conflict naming the holder."""
        return self._saga.acquire_lease(self._fence, node).generation

    def release(self, node: str) -> None:
        """The operation does not hold the node any more and its drivers are closed. Safe to repeat.

        What is seen of a node on which everything was undone is in the log before that.
        """
        self._observe_undone(node)
        self._saga.release_lease(self._fence, node)
        with self._lock:
            context = self._contexts.pop(node, None)
        if context is not None:
            context.close()

    def _observe_undone(self, node: str) -> None:
        status = self.status(node)
        proofs = proofs_due(status, self.registry, node)
        if proofs:
            context = self._context(node)
            before = states_before(status, node).get("power")
            detail = {"target": node, "power_before": before, **seen_by(proofs, context, self._saga.conceal)}
            self._patience.call(self._verbs.note, self._fence, OperationEventKind.OBSERVED, detail)

    def settle(self) -> Settlement:
        """The operation is in the state that its targets add up to. Safe to repeat."""
        return self._saga.settle(self._fence)

    def settled(self) -> bool:
        """Nobody works on the operation. Safe to repeat."""
        return self._saga.status(self.operation, target="").state in SETTLED

    @property
    def fence(self) -> Fence:
        """What writes of this worker are conditional on."""
        return self._fence

    def superseded(self) -> bool:
        """Another process of the same flow run took over; how that run ends is for it to say. Safe to repeat."""
        return self._saga.superseded(self._fence, self._run)

    def guard(self) -> None:
        """This worker is the current one, and the log could be written a moment ago: a command may go out.

        Raises LeaseLost. A look for each command, a write for each second of commands: drivers ask before each packet.
        """
        self._saga.check(self._fence)
        if time.monotonic() - self._written > WRITABLE_S:
            self._saga.permit(self._fence)
            self._written = time.monotonic()

    def check(self) -> None:
        """This worker is the current one, and it is to go on. Raises LeaseLost, Cancelled."""
        self.guard()
        if self._stop.is_set():
            raise Cancelled(f"the flow run of {self.operation} is being stopped")
        if self._cancel.requested():
            raise Cancelled(f"operation {self.operation} was cancelled")

    def close(self) -> None:
        """The heart stops and every driver is closed. Safe to repeat."""
        self._stop.set()
        with self._lock:
            contexts, self._contexts = list(self._contexts.values()), {}
        for context in contexts:
            context.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _context(self, node: str) -> NodeContext:
        with self._lock:
            if node not in self._contexts:
                spec, services = self.terms.site.node(node), self._services
                drivers = NodeDrivers(spec, services, self.guard)
                self._contexts[node] = NodeContext(self.terms, spec, services, _NodeGrip(self, node), drivers)
            return self._contexts[node]

    def _beat(self) -> None:
        """Renews the lease until closed; a fenced-off worker stops renewing, its next guard or event says why."""
        pause_s = 0.0
        while not self._stop.wait(pause_s):
            pause_s = self._saga.renew_every_s
            try:
                self._impatient.renew(self._fence)
            except LeaseLost as error:
                log.warning("lease lost", operation=self.operation, error=str(error))
                return
            except StoreUnavailable as error:
                pause_s = RENEW_AGAIN_S
                log.warning("lease not renewed", operation=self.operation, error=str(error))


class _CancelFlag:
    """Whether somebody wants the operation stopped, looked up at most every half second for all nodes together."""

    def __init__(self, look: Callable[[], bool]) -> None:
        self._look = look
        self._lock = threading.Lock()
        self._seen = False
        self._next = 0.0

    def requested(self) -> bool:
        """As of the last half second. A request stays until the operation is settled."""
        with self._lock:
            if not self._seen and time.monotonic() >= self._next:
                self._seen = self._look()
                self._next = time.monotonic() + CANCEL_LOOK_S
            return self._seen


class _NodeGrip:
    """An OperationRun, as far as one node is concerned."""

    def __init__(self, run: OperationRun, node: str) -> None:
        self._run = run
        self._node = node

    @property
    def fence(self) -> Fence:
        return self._run.fence

    def guard(self) -> None:
        self._run.guard()

    def check(self) -> None:
        self._run.check()

    def hold(self) -> int:
        return self._run.hold(self._node)

    def outputs(self, step: str) -> JsonMap:
        status = self._run.status(self._node)
        return next((s.outputs or {} for s in status.steps if (s.step, s.target) == (step, self._node)), {})
