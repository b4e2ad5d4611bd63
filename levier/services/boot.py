"""Boot entries for operations: which node may boot from the network, and what its agent does.

All state is in the database, because the steps that call this run in other processes than the boot service that
answers the machines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol

from levier.domain.agentwire import parse_mac
from levier.domain.bootentry import BootEntryView, TimedReport
from levier.domain.errors import InvalidRequest, NotFound, Unreachable
from levier.domain.netboot import AgentAction, BootPurpose, DhcpHost, ImageRef
from levier.domain.operation import Fence
from levier.services.boot_wait import BootPatience, BootWait
from levier.services.seal import Seal
from levier.store.boot import BootStore, NewBootEntry, NewInstruction

MAX_SEED_BYTES = 4 * 1024 * 1024


def utc_now() -> datetime:
    """The time now, aware and in UTC."""
    return datetime.now(UTC)


class DhcpPublisher(Protocol):
    """The DHCP server as seen from here."""

    def publish(self, read_hosts: Callable[[], Iterable[DhcpHost]]) -> None:
        """The server answers exactly the hosts that `read_hosts` returns, called while no one else publishes.

        Raises Unreachable when no server runs; the hosts are kept for its next start.
        """
        ...

    def lease_given(self, mac: str) -> bool | None:
        """Whether the machine with this MAC holds a lease; None when leases of its network are not known."""
        ...


class NoDhcp:
    """For networks whose DHCP is somebody else's."""

    def publish(self, read_hosts: Callable[[], Iterable[DhcpHost]]) -> None:
        """Nothing changes: nobody is to be told."""

    def lease_given(self, mac: str) -> bool | None:
        """None: leases of a foreign server are not known."""
        return None


class BootEntries:
    """Boot entries as an operation's steps use them. Thread-safe; usable from any process with the same database."""

    def __init__(
        self, store: BootStore, *, seal: Seal, dhcp: DhcpPublisher, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._store = store
        self._seal = seal
        self._dhcp = dhcp
        self._clock = clock

    def publish(
        self, *, node: str, mac: str, by: Fence, purpose: BootPurpose, address: str, hostname: str
    ) -> BootEntryView:
        """The node's entry stands and DHCP answers its MAC. Safe to repeat by the same operation.

        A repeat may change purpose, MAC, address and host name; a running agent stays. Raises Conflict when another
        operation's entry, or another node's with this MAC or address, stands; Unreachable when no DHCP server runs;
        LeaseLost, as all calls with `by` do, when another worker took the operation over.
        """
        new = NewBootEntry(
            node=node, mac=parse_mac(mac), operation=by.operation, purpose=purpose, address=address, hostname=hostname
        )
        view = self._store.publish(new, by=by, now=self._clock())
        self._dhcp.publish(self._store.hosts)
        return view

    def withdraw(self, *, node: str, by: Fence) -> bool:
        """The operation has no entry for the node, and no token, session or seed of it works. True if there was one.

        Safe to repeat; another operation's entry is left alone. An agent that is still running powers its machine off
        when it asks next.
        """
        removed = self._store.withdraw(node=node, by=by)
        with suppress(Unreachable):  # a server that does not run answers no one, and starts with the new hosts
            self._dhcp.publish(self._store.hosts)
        return removed

    def sync_dhcp(self) -> None:
        """DHCP answers exactly the standing entries: for a start after a crash. Safe to repeat; raises Unreachable."""
        self._dhcp.publish(self._store.hosts)

    def get(self, node: str) -> BootEntryView | None:
        """The node's entry, or None."""
        return self._store.get(node)

    def list(self) -> tuple[BootEntryView, ...]:
        """All standing entries by node."""
        return self._store.list()

    def reports(self, node: str) -> tuple[TimedReport, ...]:
        """What the node's agents reported since the entry was published. Raises NotFound without an entry."""
        view = self._store.get(node)
        if view is None:
            raise NotFound(
                f"node {node} has no boot entry", hint="it is published by the operation that boots the node"
            )
        return view.reports

    def instruct_write(self, *, node: str, by: Fence, disk: str, image: ImageRef, seed: bytes) -> bool:
        """The agent is told to write `image` and `seed` to `disk`. False when it was already: nothing is written twice.

        It is told anew after its failure and after a restart of the machine in the middle. Raises NotFound without an
        entry of the operation, Conflict while a different write goes on, InvalidRequest for a seed over 4 MiB.
        """
        if len(seed) > MAX_SEED_BYTES:
            raise InvalidRequest(f"the seed has {len(seed)} bytes; at most {MAX_SEED_BYTES} are served")
        new = NewInstruction(
            action=AgentAction.WRITE,
            disk=disk.removeprefix("/dev/"),
            image=image,
            seed_sealed=self._seal.seal(seed),
            seed_digest=hashlib.sha256(seed).hexdigest(),
        )
        return self._store.instruct(node=node, by=by, new=new, now=self._clock())

    def instruct(self, *, node: str, by: Fence, action: AgentAction, reason: str = "") -> bool:
        """The agent is told `action`. False when it was already. Safe to repeat.

        Raises NotFound without an entry of the operation, Conflict for a reboot while a write goes on, and
        InvalidRequest for `write`, which needs an image.
        """
        if action is AgentAction.WRITE:
            raise InvalidRequest("a write needs a disk, an image and a seed", hint="call instruct_write")
        new = NewInstruction(action=action, reason=reason)
        return self._store.instruct(node=node, by=by, new=new, now=self._clock())

    def wait_for(
        self,
        node: str,
        operation: str,
        until: Callable[[BootEntryView], bool],
        *,
        timeout_s: float,
        patience: BootPatience = BootPatience(),  # noqa: B008 - frozen
        check: Callable[[], None] | None = None,
    ) -> BootEntryView:
        """The entry as it was when `until` first held. Safe to repeat.

        `check` is called at every look, and ends the waiting by raising (a lost lease, a cancellation). Raises
        Rejected with the agent's own cause when it reports a failure; OutcomeUnknown when the machine started anew in
        the middle of a write, or the time ran out while the agent was at work; Unreachable, naming the last stage seen,
        when nothing was heard for too long; Conflict when the entry is withdrawn meanwhile.
        """
        wait = BootWait(
            node=node,
            read=lambda: self._entry_of(node, operation),
            until=until,
            check=check or _nothing_to_check,
            lease_given=self._dhcp.lease_given,
            clock=self._clock,
        )
        return wait.run(timeout_s=timeout_s, patience=patience)

    def _entry_of(self, node: str, operation: str) -> BootEntryView | None:
        view = self._store.get(node)
        return view if view is not None and view.operation == operation else None


def _nothing_to_check() -> None:
    """Whoever waits holds no lease."""
