"""The sessions of one BMC: handshakes under way, established sessions, and when each ends."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from levier.lab.bmc.dispatch import Privilege, SessionView
from levier.lab.bmc.rakp import Handshake, OpenRequest
from levier.lab.bmc.suites import CipherSuite, SessionKeys, decrypt, encrypt
from levier.lab.bmc.wire import (
    AUTHENTICATED,
    ENCRYPTED,
    RMCP_HEADER,
    MalformedPacket,
    Packet,
    PayloadType,
    build_v2,
    with_trailer,
)

Peer = tuple[str, int]
SLOTS = 64
"""Sessions and handshakes a BMC holds at once. Real boards have 4 to 15; tests need more."""
INACTIVITY_S = 60.0
"""A silent session ends after this time (6.12.15)."""
HANDSHAKE_S = 3.0
"""A handshake that stops for this long was given up by its client."""
_WINDOW = 32


@dataclass(slots=True)
class Pending:
    """A handshake under way."""

    peer: Peer
    request: OpenRequest
    suite: CipherSuite
    managed_id: bytes
    touched: float
    handshake: Handshake | None = None
    username: str = ""


@dataclass(slots=True)
class Session:
    """An established session."""

    peer: Peer
    view: SessionView
    console_id: int
    suite: CipherSuite
    keys: SessionKeys
    touched: float
    established_by: bytes
    """The RAKP 3 message that made it: a retransmission is answered with RAKP 4 again."""
    handshake: Handshake
    sent: int = 0
    _highest: int = 0
    _seen: int = field(default=0)

    def open(self, packet: Packet) -> bytes:
        """The packet's payload in clear. Raises MalformedPacket for a foreign packet, or a replay."""
        if not packet.authenticated or not packet.encrypted:
            raise MalformedPacket("unprotected packet inside a session")
        signature = self.suite.short_mac(self.keys.integrity, packet.covered)
        if not secrets.compare_digest(signature, packet.authcode):
            raise MalformedPacket("wrong integrity check value")
        self._accept(packet.sequence)
        return decrypt(self.keys.aes, packet.payload)

    def _accept(self, sequence: int) -> None:
        """Takes each sequence number once, in a sliding window (6.12.13): a repeated datagram acts once."""
        ahead = sequence - self._highest
        if ahead > 0:
            self._seen = (self._seen << ahead | 1) & ((1 << _WINDOW) - 1)
            self._highest = sequence
            return
        if -ahead >= _WINDOW or self._seen >> -ahead & 1:
            raise MalformedPacket("sequence number seen before")
        self._seen |= 1 << -ahead

    def seal(self, payload: bytes) -> bytes:
        """The datagram that carries `payload` to the client."""
        self.sent += 1
        datagram = with_trailer(
            build_v2(
                encrypt(self.keys.aes, payload),
                kind=PayloadType.IPMI | ENCRYPTED | AUTHENTICATED,
                session_id=self.console_id,
                sequence=self.sent,
            )
        )
        return datagram + self.suite.short_mac(self.keys.integrity, datagram[len(RMCP_HEADER) :])


class SessionTable:
    """All handshakes and sessions of one BMC, by managed session id."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, slots: int = SLOTS) -> None:
        self._clock = clock
        self._slots = slots
        self.pending: dict[bytes, Pending] = {}
        self.sessions: dict[int, Session] = {}

    def begin(self, request: OpenRequest, *, suite: CipherSuite, peer: Peer) -> Pending | None:
        """A handshake under way, or None when no slot is free. A repeated request starts its handshake anew."""
        for known in [p for p in self.pending.values() if (p.peer, p.request.console_id) == (peer, request.console_id)]:
            del self.pending[known.managed_id]
        if len(self.sessions) + len(self.pending) >= self._slots:
            return None
        managed_id = secrets.token_bytes(4)
        while managed_id in self.pending or int.from_bytes(managed_id, "little") in {0, *self.sessions}:
            managed_id = secrets.token_bytes(4)
        started = Pending(peer=peer, request=request, suite=suite, managed_id=managed_id, touched=self._clock())
        self.pending[managed_id] = started
        return started

    def forget(self) -> None:
        """No handshake and no session is left, as after a restart."""
        self.pending.clear()
        self.sessions.clear()

    def establish(self, pending: Pending, handshake: Handshake, *, rakp3: bytes) -> Session:
        """The handshake became a session; what else this peer had begun is forgotten."""
        for other in [p for p in self.pending.values() if p.peer == pending.peer]:
            del self.pending[other.managed_id]
        session_id = int.from_bytes(pending.managed_id, "little")
        limit = Privilege(pending.request.privilege or Privilege.ADMINISTRATOR)
        role = handshake.rakp1.role & 0x0F
        session = Session(
            peer=pending.peer,
            view=SessionView(
                session_id=session_id,
                username=pending.username,
                limit=Privilege(min(limit, role or Privilege.ADMINISTRATOR)),
            ),
            console_id=int.from_bytes(pending.request.console_id, "little"),
            suite=pending.suite,
            keys=handshake.keys(),
            touched=self._clock(),
            established_by=rakp3,
            handshake=handshake,
        )
        self.sessions[session_id] = session
        return session

    def touch(self, item: Pending | Session) -> None:
        """The item was heard of just now."""
        item.touched = self._clock()

    def abandon(self) -> list[Pending]:
        """Silent sessions are gone; so are the handshakes that stopped, which are returned."""
        now = self._clock()
        for session_id in [i for i, s in self.sessions.items() if now - s.touched > INACTIVITY_S]:
            del self.sessions[session_id]
        stopped = [p for p in self.pending.values() if now - p.touched > HANDSHAKE_S]
        for pending in stopped:
            del self.pending[pending.managed_id]
        return stopped
