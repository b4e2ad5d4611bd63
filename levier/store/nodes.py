"""Nodes in SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from levier.domain.errors import Conflict, NotFound
from levier.domain.node import NodeState, transition
from levier.domain.node_record import NodeRecord, SiteNode
from levier.domain.operation import Fence
from levier.store.base import reading, writing
from levier.store.fencing import hold, refuse_other_holder
from levier.store.tables import LeaseRow, NodeRow


class NodeStore:
    """What is known about each node. With a `fence`, a write is refused (LeaseLost) once its worker was taken over."""

    def __init__(self, engine: Engine, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._engine = engine
        self._clock = clock

    def upsert_from_site(self, nodes: Iterable[SiteNode]) -> None:
        """Each node of the site file is known, with its zone and rack; a new one is `enrolled`. Safe to repeat.

        Nodes that the file no longer names stay as they are: leaving is an operation (retire).
        """
        with writing(self._engine) as session:
            known = {row.name: row for row in session.scalars(select(NodeRow).with_for_update())}
            for node in nodes:
                row = known.get(node.name)
                if row is None:
                    row = _new_row(node, at=self._clock())
                    session.add(row)
                elif (row.zone, row.rack) != (node.zone, node.rack):
                    row.zone, row.rack, row.updated = node.zone, node.rack, self._clock()

    def get(self, name: str) -> NodeRecord:
        """The node. Raises NotFound."""
        with reading(self._engine) as session:
            row = session.get(NodeRow, name)
            if row is None:
                raise _unknown(name)
            lease = session.get(LeaseRow, name)
            return _record_of(row, lease.operation if lease is not None else None)

    def list(self) -> tuple[NodeRecord, ...]:
        """All nodes, by name."""
        query = select(NodeRow, LeaseRow.operation).outerjoin(LeaseRow, LeaseRow.node == NodeRow.name)
        with reading(self._engine) as session:
            rows = session.execute(query.order_by(NodeRow.name))
            return tuple(_record_of(row, operation) for row, operation in rows)

    def set_state(
        self, name: str, state: NodeState, *, expected: Iterable[NodeState], fence: Fence | None = None
    ) -> NodeState:
        """The node is in `state`; returns the one before. Safe to repeat.

        Raises Conflict when it is in none of `expected` (nor in `state` already), or may not go from there.
        """
        allowed = frozenset(expected)
        with writing(self._engine) as session:
            row = _held(session, name, fence)
            old = NodeState(row.state)
            if old is state:
                return old
            if old not in allowed:
                wanted = " or ".join(sorted(allowed))
                raise Conflict(f"node {name} is {old}, not {wanted}", hint=f"see levier node show {name}")
            transition(old, state, node=name)
            row.state, row.updated = state.value, self._clock()
            return old

    def update_facts(
        self,
        name: str,
        *,
        fence: Fence | None = None,
        inventory: Mapping[str, Any] | None = None,
        facts: Mapping[str, Any] | None = None,
        address: str | None = None,
        os: str | None = None,
        kernel: str | None = None,
        serial: str | None = None,
        revision: int | None = None,
    ) -> None:
        """What is given (not None) is known about the node; the rest is as it was. Safe to repeat.

        Empty strings and mappings take knowledge back; `revision=0` says that it runs none.
        """
        given = {
            "inventory": inventory if inventory is None else dict(inventory),
            "facts": facts if facts is None else dict(facts),
            "address": address,
            "os": os,
            "kernel": kernel,
            "serial": serial,
        }
        with writing(self._engine) as session:
            row = _held(session, name, fence)
            for column, value in given.items():
                if value is not None:
                    setattr(row, column, value)
            if revision is not None:
                row.revision = revision or None
            row.updated = self._clock()

    def set_flags(
        self, name: str, *, maintenance: bool | None = None, locked: bool | None = None, fault: str | None = None
    ) -> None:
        """The flags that are given are set so (an empty `fault`: there is none); the others are as they were.

        Safe to repeat. Raises NotFound.
        """
        with writing(self._engine) as session:
            row = _held(session, name, None)
            row.maintenance = row.maintenance if maintenance is None else maintenance
            row.locked = row.locked if locked is None else locked
            row.fault = row.fault if fault is None else fault
            row.updated = self._clock()


def _held(session: Session, name: str, fence: Fence | None) -> NodeRow:
    """The node's row, locked, and the fence found current."""
    if fence is not None:
        hold(session, fence)
        refuse_other_holder(session, fence, name)
    row = session.get(NodeRow, name, with_for_update=True)
    if row is None:
        raise _unknown(name)
    return row


def _unknown(name: str) -> NotFound:
    return NotFound(f"there is no node {name}", hint="levier node list shows them; new ones come by levier site apply")


def _new_row(node: SiteNode, *, at: datetime) -> NodeRow:
    return NodeRow(
        name=node.name,
        zone=node.zone,
        rack=node.rack,
        state=NodeState.ENROLLED.value,
        maintenance=False,
        locked=False,
        fault="",
        address="",
        os="",
        kernel="",
        serial="",
        revision=None,
        inventory={},
        facts={},
        updated=at,
    )


def _record_of(row: NodeRow, operation: str | None) -> NodeRecord:
    return NodeRecord(
        name=row.name,
        zone=row.zone,
        rack=row.rack,
        state=NodeState(row.state),
        maintenance=row.maintenance,
        locked=row.locked,
        fault=row.fault,
        address=row.address,
        os=row.os,
        kernel=row.kernel,
        serial=row.serial,
        revision=row.revision,
        operation=operation or "",
        inventory=row.inventory,
        facts=row.facts,
        updated=row.updated,
    )
