"""Addresses taken by nodes, in SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from sqlalchemy import Engine, delete, select

from levier.domain.address import Allocation
from levier.domain.errors import Conflict
from levier.domain.operation import Fence
from levier.store.base import exclusive, reading, writing
from levier.store.fencing import hold
from levier.store.tables import AddressRow


class AddressStore:
    """At most one address per network and node; an address belongs to one node."""

    def __init__(self, engine: Engine, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._engine = engine
        self._clock = clock

    def allocate(
        self,
        network: str,
        candidates: Iterable[str],
        *,
        node: str,
        operation: str,
        fence: Fence | None = None,
    ) -> str:
        """The node has an address of the network: the one it had, else the first free one of `candidates`.

        Safe to repeat. Raises Conflict when none is free; with a `fence`, LeaseLost once its worker was taken over.
        """
        with writing(self._engine) as session:
            if fence is not None:
                hold(session, fence)
            exclusive(session, f"network {network}")
            rows = session.scalars(select(AddressRow).where(AddressRow.network == network)).all()
            own = next((row.address for row in rows if row.node == node), None)
            if own is not None:
                return own
            taken = {row.address for row in rows}
            address = next((a for a in candidates if a not in taken), None)
            if address is None:
                raise Conflict(
                    f"network {network} has no free address for {node}: {len(taken)} are taken",
                    hint="widen the network's range in the site file, or retire nodes",
                )
            row = AddressRow(network=network, address=address, node=node, operation=operation, at=self._clock())
            session.add(row)
            return address

    def release(self, network: str, *, node: str, operation: str = "", fence: Fence | None = None) -> None:
        """The node has no address of the network; safe to repeat.

        With `operation`, only if that one took it: an undo must not take away what was there before.
        """
        gone = delete(AddressRow).where(AddressRow.network == network, AddressRow.node == node)
        if operation:
            gone = gone.where(AddressRow.operation == operation)
        with writing(self._engine) as session:
            if fence is not None:
                hold(session, fence)
            session.execute(gone)

    def list(self, network: str | None = None) -> tuple[Allocation, ...]:
        """All allocations (of one network), by network and node."""
        query = select(AddressRow).order_by(AddressRow.network, AddressRow.node)
        if network is not None:
            query = query.where(AddressRow.network == network)
        with reading(self._engine) as session:
            return tuple(Allocation(r.network, r.address, r.node, r.operation, r.at) for r in session.scalars(query))
