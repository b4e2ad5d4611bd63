"""Logs and leases of many writers at once, nodes, revisions and addresses, on both databases."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from levier.domain.errors import Conflict, LeaseLost, LevierError, NotFound
from levier.domain.node import NodeState
from levier.domain.node_record import SiteNode
from levier.domain.operation import StepEventKind
from levier.saga.engine import Saga
from levier.store.addresses import AddressStore
from levier.store.nodes import NodeStore
from levier.store.revisions import RevisionStore
from tests.integration.saga_faults import begun

T = TypeVar("T")


def at_once(calls: list[Callable[[], T]]) -> list[T | LevierError]:
    """The results (or domain errors) of all calls, begun at the same time."""
    barrier = threading.Barrier(len(calls))

    def one(call: Callable[[], T]) -> T | LevierError:
        barrier.wait(30)
        try:
            return call()
        except LevierError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(one, calls))


# --- leases ----------------------------------------------------------------------------------------------------------


def test_the_log_refuses_what_may_not_follow(saga: Saga) -> None:
    """Also when two threads of the same worker conclude the same attempt: one of them is told."""
    fence = begun(saga, "n1")
    at = saga.status(fence.operation).operation.created

    def append(kind: StepEventKind) -> int:
        event = saga._log.append(fence, step="a", target="n1", kind=kind, attempt=1, at=at, data={})
        return event.seq

    for kind in (StepEventKind.SUCCEEDED, StepEventKind.UNKNOWN, StepEventKind.UNDO_STARTED, StepEventKind.UNDONE):
        with pytest.raises(Conflict, match="cannot follow"):
            append(kind)
    append(StepEventKind.STARTED)
    last = saga.status(fence.operation).last_seq
    results = at_once([lambda: append(StepEventKind.SUCCEEDED) for _ in range(6)])
    assert sum(isinstance(r, Conflict) for r in results) == 5
    assert [r for r in results if isinstance(r, int)] == [last + 1]
    assert saga.status(fence.operation).last_seq == last + 1


def test_of_many_operations_one_gets_the_node(saga: Saga) -> None:
    fences = [begun(saga, "n1") for _ in range(8)]
    results = at_once([lambda f=f: saga.acquire_lease(f, "n1") for f in fences])  # type: ignore[misc]
    assert sum(isinstance(r, Conflict) for r in results) == 7
    (lease,) = saga.leases()
    assert lease.generation == 1


def test_events_of_many_threads_are_numbered_without_gaps(saga: Saga, engine: Engine) -> None:
    nodes = [f"n{i}" for i in range(12)]
    fence = begun(saga, *nodes)
    at = saga.status(fence.operation).operation.created

    def write(node: str) -> int:
        first = saga._log.append(
            fence, step="a", target=node, kind=StepEventKind.STARTED, attempt=1, at=at, data={"before": {}}
        )
        return first.seq

    numbers = at_once([lambda n=n: write(n) for n in nodes])  # type: ignore[misc]
    before = 3  # planned, taken over, running
    assert sorted(int(n) for n in numbers if isinstance(n, int)) == list(range(before + 1, before + 13))
    assert len(saga.status(fence.operation).stands) == 12


# --- nodes -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def nodes(engine: Engine) -> NodeStore:
    store = NodeStore(engine)
    store.upsert_from_site([SiteNode("n1", "z1", "r1"), SiteNode("n2", "z2")])
    return store


def test_nodes_come_from_the_site_and_keep_what_is_known(nodes: NodeStore) -> None:
    nodes.update_facts("n1", serial="LV1", address="10.0.0.1", inventory={"cpu_count": 2}, os="debian 12")
    nodes.upsert_from_site([SiteNode("n1", "z9", "r9"), SiteNode("n3", "z1")])
    n1 = nodes.get("n1")
    assert (n1.zone, n1.rack, n1.serial, n1.state) == ("z9", "r9", "LV1", NodeState.ENROLLED)
    assert n1.inventory == {"cpu_count": 2}
    assert [n.name for n in nodes.list()] == ["n1", "n2", "n3"]
    nodes.update_facts("n1", serial="", os=None)
    assert (nodes.get("n1").serial, nodes.get("n1").os) == ("", "debian 12")
    for call in (nodes.get, lambda n: nodes.update_facts(n, os="x"), lambda n: nodes.set_flags(n, locked=True)):
        with pytest.raises(NotFound, match="n7"):
            call("n7")


def test_node_states_change_only_from_what_was_expected(nodes: NodeStore) -> None:
    S = NodeState
    assert nodes.set_state("n1", S.AVAILABLE, expected=[S.ENROLLED]) is S.ENROLLED
    assert nodes.set_state("n1", S.DEPLOYING, expected=[S.ENROLLED, S.AVAILABLE]) is S.AVAILABLE
    assert nodes.set_state("n1", S.DEPLOYING, expected=[S.AVAILABLE]) is S.DEPLOYING, "a repeat is fine"
    with pytest.raises(Conflict, match="is deploying, not enrolled"):
        nodes.set_state("n1", S.AVAILABLE, expected=[S.ENROLLED])
    with pytest.raises(Conflict, match="cannot become retired"):
        nodes.set_state("n1", S.RETIRED, expected=[S.DEPLOYING])
    assert nodes.get("n1").state is S.DEPLOYING


def test_flags_are_apart_from_the_state(nodes: NodeStore) -> None:
    nodes.set_flags("n1", maintenance=True)
    nodes.set_flags("n1", locked=True)
    nodes.set_flags("n1", fault="fan 2 is dead")
    n1 = nodes.get("n1")
    assert (n1.maintenance, n1.locked, n1.fault, n1.state) == (True, True, "fan 2 is dead", NodeState.ENROLLED)


def test_who_holds_a_node_is_shown_and_others_cannot_write_it(saga: Saga, nodes: NodeStore) -> None:
    holder, other = begun(saga, "n1"), begun(saga, "n1")
    saga.acquire_lease(holder, "n1")
    assert [n.operation for n in nodes.list()] == [holder.operation, ""]
    assert nodes.get("n1").operation == holder.operation
    nodes.update_facts("n1", kernel="6.1", fence=holder)
    with pytest.raises(Conflict, match=holder.operation):
        nodes.update_facts("n1", kernel="5.0", fence=other)
    saga.begin(holder.operation, worker="w2")
    with pytest.raises(LeaseLost):
        nodes.set_state("n1", NodeState.AVAILABLE, expected=[NodeState.ENROLLED], fence=holder)
    assert (nodes.get("n1").kernel, nodes.get("n1").state) == ("6.1", NodeState.ENROLLED)


# --- revisions -------------------------------------------------------------------------------------------------------


def test_the_same_content_makes_no_second_revision(engine: Engine) -> None:
    store = RevisionStore(engine)
    assert store.latest() is None
    assert store.apply({"a": 1, "b": [1, 2]}, "a: 1\nb: [1, 2]\n", "ann") == (1, True)
    assert store.apply({"b": [1, 2], "a": 1}, "# another text\n", "bob") == (1, False)
    assert store.apply({"a": 2}, "a: 2\n", "bob") == (2, True)
    assert store.apply({"a": 1, "b": [1, 2]}, "back\n", "ann") == (3, True), "going back is a change"
    latest = store.latest()
    assert latest is not None
    assert (latest.number, latest.digest, latest.content) == (3, store.get(1).digest, {"a": 1, "b": [1, 2]})
    assert (store.get(1).source, store.get(1).who) == ("a: 1\nb: [1, 2]\n", "ann")
    assert [r.number for r in store.list()] == [3, 2, 1]
    with pytest.raises(NotFound, match="9"):
        store.get(9)


def test_revisions_are_immutable(engine: Engine) -> None:
    RevisionStore(engine).apply({"a": 1}, "a: 1\n", "ann")
    for change in ("UPDATE revision SET who = 'me'", "DELETE FROM revision"):
        with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
            connection.exec_driver_sql(change)
    assert RevisionStore(engine).get(1).who == "ann"


def test_revisions_of_many_writers_are_numbered_without_gaps(engine: Engine) -> None:
    store = RevisionStore(engine)
    results = at_once([lambda i=i: store.apply({"n": i}, "", "ann") for i in range(8)])  # type: ignore[misc]
    assert sorted(r for r in results if isinstance(r, tuple)) == [(n, True) for n in range(1, 9)]
    same = at_once([lambda: store.apply({"n": "same"}, "", "ann") for _ in range(8)])
    assert sorted(r for r in same if isinstance(r, tuple)) == [(9, False)] * 7 + [(9, True)]


# --- addresses -------------------------------------------------------------------------------------------------------


def test_an_address_is_kept_by_a_retry_and_freed_by_its_operation_only(engine: Engine) -> None:
    store = AddressStore(engine)
    pool = ["10.0.0.1", "10.0.0.2"]
    assert store.allocate("prov", pool, node="n1", operation="op1") == "10.0.0.1"
    assert store.allocate("prov", pool[::-1], node="n1", operation="op2") == "10.0.0.1"
    assert store.allocate("data", pool, node="n1", operation="op1") == "10.0.0.1", "networks are apart"
    assert store.allocate("prov", pool, node="n2", operation="op2") == "10.0.0.2"
    with pytest.raises(Conflict, match="no free address for n3"):
        store.allocate("prov", pool, node="n3", operation="op3")
    store.release("prov", node="n1", operation="op2")
    assert len(store.list("prov")) == 2, "op2 did not take it"
    store.release("prov", node="n1", operation="op1")
    store.release("prov", node="n1")
    assert [(a.node, a.address) for a in store.list("prov")] == [("n2", "10.0.0.2")]
    assert [a.network for a in store.list()] == ["data", "prov"]


def test_addresses_of_many_writers_are_all_different(engine: Engine) -> None:
    store = AddressStore(engine)
    pool = [f"10.0.0.{i}" for i in range(1, 9)]
    calls = [lambda n=n: store.allocate("prov", pool, node=f"n{n}", operation="op") for n in range(8)]
    assert sorted(str(r) for r in at_once(calls)) == pool  # type: ignore[arg-type]


def test_a_fenced_off_worker_allocates_nothing(saga: Saga, engine: Engine) -> None:
    store, fence = AddressStore(engine), begun(saga, "n1")
    saga.begin(fence.operation, worker="w2")
    with pytest.raises(LeaseLost):
        store.allocate("prov", ["10.0.0.1"], node="n1", operation=fence.operation, fence=fence)
    assert store.list() == ()


# --- the log ---------------------------------------------------------------------------------------------------------


def test_the_log_is_append_only_whoever_tries(saga: Saga, engine: Engine) -> None:
    fence = begun(saga, "n1")
    at = saga.status(fence.operation).operation.created
    saga._log.append(fence, step="a", target="n1", kind=StepEventKind.STARTED, attempt=1, at=at, data={})
    for table, column in (("step_event", "worker"), ("operation_event", "worker"), ("planned_step", "step")):
        with pytest.raises(Exception, match=r"append-only: no UPDATE"), engine.begin() as connection:
            connection.exec_driver_sql(f"UPDATE {table} SET {column} = 'me'")
