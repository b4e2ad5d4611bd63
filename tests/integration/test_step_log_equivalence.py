"""Random calls on the log in memory and on the one in SQLite: every answer, refusal and fold is the same."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from levier.domain.errors import LevierError
from levier.domain.operation import Fence, Operation, OperationState, PlannedStep, StepEventKind
from levier.saga.log import StepLog
from levier.saga.verbs import VerbLog
from levier.store.base import open_engine
from levier.store.step_log import SqlStepLog
from levier.store.verb_log import SqlVerbLog
from tests.simulation.memory_log import MemoryLog
from tests.simulation.memory_verbs import MemoryVerbLog

START = datetime(2026, 1, 1, tzinfo=UTC)
NODES = ("n1", "n2")
STEPS = ("a", "b")
OPERATIONS = ("o1", "o2")

nodes, steps, operations = st.sampled_from(NODES), st.sampled_from(STEPS), st.sampled_from(OPERATIONS)
keys = st.sampled_from(["", "", "k1", "k2"])
workers = st.sampled_from(["w1", "w2"])
which = st.integers(0, 3)
"""Which of the fences given so far, counted from the newest."""
kinds = st.sampled_from(list(StepEventKind))

# What is likely to lead somewhere comes often: without it hardly any sequence gets beyond `started`.
calls = st.one_of(
    st.tuples(st.just("create"), operations, st.sampled_from(["", "run-1"])),
    st.tuples(st.just("take_over"), operations, workers, keys),
    st.tuples(st.just("set_state"), which, st.sampled_from(list(OperationState))),
    st.tuples(st.just("set_state"), which, st.just(OperationState.RUNNING)),
    st.tuples(st.just("request_cancel"), operations),
    st.tuples(st.just("append"), which, steps, nodes, kinds, st.integers(1, 3), st.booleans(), keys),
    st.tuples(st.just("append"), which, st.just("a"), st.just("n1"), kinds, st.just(1), st.just(True), st.just("")),
    st.tuples(st.just("acquire_lease"), which, nodes),
    st.tuples(st.just("release_lease"), which, nodes),
    st.tuples(st.just("renew"), which),
    st.tuples(st.just("is_current"), which),
    st.tuples(st.just("order"), operations, st.sampled_from(["resume", "abandon"])),
    st.tuples(st.just("skip"), operations, steps, nodes),
    st.tuples(st.just("abandon"), operations),
    st.tuples(st.just("history"), operations),
)
begun = [("create", "o1", ""), ("take_over", "o1", "w1", ""), ("set_state", 0, OperationState.RUNNING)]


@dataclass
class Driver:
    """Makes the same calls on one log as another driver does on another."""

    log: StepLog
    verbs: VerbLog
    fences: list[Fence] = field(default_factory=list)

    def answer(self, name: str, arguments: tuple[Any, ...], at: datetime) -> object:
        """What the call returned, or the class of what it raised."""
        method: Callable[..., object] = getattr(self, f"_{name}")
        try:
            return method(at, *arguments)
        except LevierError as error:
            return type(error)

    def seen(self) -> object:
        return self.log.statuses(), self.log.leases(), [self.log.cancel_requested(s.id) for s in self.log.statuses()]

    def _fence(self, back: int) -> Fence:
        return self.fences[-1 - back % len(self.fences)] if self.fences else Fence("o9", 1, "w9")

    def _create(self, at: datetime, name: str, key: str) -> object:
        plan = tuple(PlannedStep(step, node, wave=NODES.index(node)) for node in NODES for step in STEPS)
        return self.log.create(Operation(name, "expand", NODES, plan, at, "1.0.0", key=key))

    def _take_over(self, at: datetime, name: str, worker: str, key: str) -> object:
        expires = at + timedelta(minutes=1)
        fence = self.log.take_over(
            name, worker=worker, run=f"run of {worker}", code_version="1.0.0", at=at, expires=expires, key=key
        )
        self.fences.append(fence)
        return fence

    def _set_state(self, at: datetime, back: int, state: OperationState) -> object:
        return self.log.set_state(self._fence(back), state, detail={"reason": "because"}, at=at)

    def _request_cancel(self, at: datetime, name: str) -> object:
        return self.log.request_cancel(name, who="ann", reason=f"at {at}", at=at)

    def _append(
        self, at: datetime, back: int, step: str, node: str, kind: StepEventKind, attempt: int, lease: bool, key: str
    ) -> object:
        data = {"outputs": {"at": str(at)}, "error": {"error": "E", "message": "m", "hint": ""}}
        return self.log.append(
            self._fence(back),
            step=step,
            target=node,
            kind=kind,
            attempt=attempt,
            at=at,
            data=data,
            needs_lease=lease,
            key=key,
        )

    def _acquire_lease(self, at: datetime, back: int, node: str) -> object:
        return self.log.acquire_lease(self._fence(back), node, at=at, expires=at + timedelta(minutes=1))

    def _release_lease(self, _at: datetime, back: int, node: str) -> object:
        return self.log.release_lease(self._fence(back), node)

    def _renew(self, at: datetime, back: int) -> object:
        return self.log.renew(self._fence(back), at=at, expires=at + timedelta(minutes=2))

    def _order(self, at: datetime, name: str, verb: str) -> object:
        return self.verbs.order(name, detail={"verb": verb, "who": "ann", "reason": f"at {at}"}, at=at)

    def _skip(self, at: datetime, name: str, step: str, node: str) -> object:
        return self.verbs.skip(name, step=step, target=node, data={"who": "ann", "reason": "by hand"}, at=at)

    def _abandon(self, at: datetime, name: str) -> object:
        return self.verbs.abandon(name, detail={"verb": "abandon", "who": "ann", "reason": "old", "nodes": []}, at=at)

    def _history(self, _at: datetime, name: str) -> object:
        return self.verbs.history(name)

    def _is_current(self, _at: datetime, back: int) -> object:
        return self.log.is_current(self._fence(back))


@contextmanager
def sqlite_log(migrated: Path) -> Iterator[SqlStepLog]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "levier.db"
        shutil.copy(migrated, path)
        engine = open_engine(f"sqlite:///{path}")
        # What a power failure would leave is not the question here.
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
        yield SqlStepLog(engine)
        engine.dispose()


@given(st.lists(calls, min_size=5, max_size=40))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_memory_and_sqlite_agree(migrated_sqlite: Path, sequence: list[tuple[Any, ...]]) -> None:
    with sqlite_log(migrated_sqlite) as sql_log:
        in_memory = MemoryLog()
        memory = Driver(in_memory, MemoryVerbLog(in_memory))
        sql = Driver(sql_log, SqlVerbLog(sql_log._engine))
        for number, (name, *arguments) in enumerate([*begun, *sequence]):
            at = START + timedelta(seconds=number)
            answers = [driver.answer(name, tuple(arguments), at) for driver in (memory, sql)]
            assert answers[0] == answers[1], f"call {number}: {name}{tuple(arguments)}"
            assert memory.seen() == sql.seen(), f"after call {number}: {name}{tuple(arguments)}"
