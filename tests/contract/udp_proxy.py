"""A lossy wire: a UDP proxy between an IPMI client and a BMC that drops, delays, repeats or rewrites datagrams.

In-session IPMI messages are encrypted, so rules go by direction, packet type and position. The position counts a type
in one direction since the login began; of a resent request each copy counts.
"""

from __future__ import annotations

import heapq
import itertools
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from levier.domain.bmc import BmcAddress


class Direction(Enum):
    TO_BMC = "to BMC"
    TO_CLIENT = "to client"


class Kind(Enum):
    """IPMI over LAN packet types (IPMI 2.0 table 13-16)."""

    SESSIONLESS = "sessionless"
    OPEN_REQUEST = 0x10
    OPEN_RESPONSE = 0x11
    RAKP1 = 0x12
    RAKP2 = 0x13
    RAKP3 = 0x14
    RAKP4 = 0x15
    IPMI = 0x00
    OTHER = "other"


def kind_of(payload: bytes) -> Kind:
    if len(payload) < 6:
        return Kind.OTHER
    if payload[4] != 6:
        return Kind.SESSIONLESS
    try:
        return Kind(payload[5] & 0x3F)
    except ValueError:
        return Kind.OTHER


@dataclass(frozen=True)
class Datagram:
    """One packet on its way. `nth` counts this kind in this direction since the login began, from 1.

    `client` is the client's UDP port.
    """

    direction: Direction
    kind: Kind
    nth: int
    client: int
    time: float
    payload: bytes


Delivery = tuple[float, bytes]
"""Seconds to wait, and what to deliver then."""
Rule = Callable[[Datagram], Sequence[Delivery] | None]
"""What becomes of a datagram: a list of deliveries (empty: lost), or None for "not my business"."""


def match(
    direction: Direction, kind: Kind, *, nth: int | None = None, times: int | None = None
) -> Callable[[Datagram], bool]:
    """True for the datagrams described, at most `times` times."""
    left = itertools.count() if times is None else iter(range(times))

    def matches(datagram: Datagram) -> bool:
        fits = datagram.direction is direction and datagram.kind is kind and nth in (None, datagram.nth)
        return fits and next(left, None) is not None

    return matches


def drop(matches: Callable[[Datagram], bool]) -> Rule:
    return lambda datagram: [] if matches(datagram) else None


def delay(matches: Callable[[Datagram], bool], delay_s: float) -> Rule:
    return lambda datagram: [(delay_s, datagram.payload)] if matches(datagram) else None


def duplicate(matches: Callable[[Datagram], bool], *, copies: int = 2, after_s: float = 0.0) -> Rule:
    return lambda d: [(after_s * n, d.payload) for n in range(copies)] if matches(d) else None


def rewrite(matches: Callable[[Datagram], bool], change: Callable[[bytes], bytes]) -> Rule:
    return lambda datagram: [(0.0, change(datagram.payload))] if matches(datagram) else None


class UdpProxy:
    """Runs between `with` and its end; `address` is where the client finds the BMC."""

    def __init__(self, bmc: BmcAddress, *rules: Rule) -> None:
        self._bmc = (bmc.host, bmc.port)
        self.rules: list[Rule] = list(rules)
        self.seen: list[Datagram] = []
        self._counts: Counter[tuple[Direction, Kind]] = Counter()
        self._pending: list[tuple[float, int, socket.socket, bytes, tuple[str, int]]] = []
        self._order = itertools.count()
        self._upstream: dict[tuple[str, int], socket.socket] = {}
        self._client_of: dict[socket.socket, tuple[str, int]] = {}
        self._selector = selectors.DefaultSelector()
        self._front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._front.bind(("127.0.0.1", 0))
        self._selector.register(self._front, selectors.EVENT_READ)
        self._wake_read, self._wake_write = socket.socketpair()
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="udp-proxy")
        self.address = BmcAddress("127.0.0.1", self._front.getsockname()[1])

    def __enter__(self) -> UdpProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._wake_write.send(b"x")
        self._thread.join(10)
        assert not self._thread.is_alive()
        for open_socket in (self._front, self._wake_read, self._wake_write, *self._upstream.values()):
            open_socket.close()
        self._selector.close()

    def count(self, direction: Direction, kind: Kind) -> int:
        """How many datagrams of this kind arrived at the proxy, lost ones included."""
        return sum(1 for datagram in self.seen if (datagram.direction, datagram.kind) == (direction, kind))

    def _run(self) -> None:
        while True:
            timeout = max(0.0, self._pending[0][0] - time.monotonic()) if self._pending else None
            for key, _ in self._selector.select(timeout):
                if key.fileobj is self._wake_read:
                    return
                self._take(key.fileobj)
            while self._pending and self._pending[0][0] <= time.monotonic():
                _, _, out, payload, target = heapq.heappop(self._pending)
                out.sendto(payload, target)

    def _take(self, source: object) -> None:
        assert isinstance(source, socket.socket)
        try:
            payload, peer = source.recvfrom(65536)
        except ConnectionError:  # ICMP: nobody listens behind the proxy
            return
        if source is self._front:
            self._route(Direction.TO_BMC, payload, self._upstream_of(peer), self._bmc, client=peer[1])
        else:
            client = self._client_of[source]
            self._route(Direction.TO_CLIENT, payload, self._front, client, client=client[1])

    def _upstream_of(self, client: tuple[str, int]) -> socket.socket:
        if client not in self._upstream:
            upstream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            upstream.bind(("127.0.0.1", 0))
            self._selector.register(upstream, selectors.EVENT_READ)
            self._upstream[client] = upstream
            self._client_of[upstream] = client
        return self._upstream[client]

    def _route(
        self, direction: Direction, payload: bytes, out: socket.socket, target: tuple[str, int], *, client: int
    ) -> None:
        kind = kind_of(payload)
        if direction is Direction.TO_BMC and kind is Kind.OPEN_REQUEST:
            self._counts.clear()
        self._counts[direction, kind] += 1
        datagram = Datagram(direction, kind, self._counts[direction, kind], client, time.monotonic(), payload)
        self.seen.append(datagram)
        outcomes = (rule(datagram) for rule in self.rules)
        deliveries = next((found for found in outcomes if found is not None), [(0.0, payload)])
        for wait_s, content in deliveries:
            heapq.heappush(self._pending, (time.monotonic() + wait_s, next(self._order), out, content, target))
