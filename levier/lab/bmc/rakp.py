"""The RMCP+ handshake, seen from the BMC (IPMI 2.0 sections 13.17 to 13.23): pure functions over bytes."""

from __future__ import annotations

import hmac
import os
import struct
from dataclasses import dataclass
from enum import IntEnum

from levier.lab.bmc.suites import SUITES, CipherSuite, SessionKeys
from levier.lab.bmc.wire import MalformedPacket

ADMINISTRATOR = 4
NO_ROLE_LOOKUP_MASK = 0x0F


class Status(IntEnum):
    """RMCP+ status codes (table 13-15)."""

    OK = 0x00
    NO_RESOURCES = 0x01
    INVALID_SESSION = 0x02
    INVALID_ROLE = 0x09
    UNKNOWN_NAME = 0x0D
    WRONG_INTEGRITY_CHECK = 0x0F
    NO_SUITE_MATCH = 0x11


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """Open Session Request: what the client proposes. Session ids are the 4 bytes as sent."""

    tag: int
    privilege: int
    console_id: bytes
    suite: CipherSuite | None
    """None: none of the offered suites matches."""


@dataclass(frozen=True, slots=True)
class Rakp1:
    """RAKP message 1: the client names its user."""

    tag: int
    managed_id: bytes
    console_random: bytes
    role: int
    username: bytes


@dataclass(frozen=True, slots=True)
class Rakp3:
    """RAKP message 3: the client's proof, or its refusal of ours."""

    tag: int
    status: int
    managed_id: bytes
    authcode: bytes


@dataclass(frozen=True, slots=True)
class Handshake:
    """Everything both sides know after RAKP 1, and the keys that follow from it."""

    suite: CipherSuite
    console_id: bytes
    managed_id: bytes
    rakp1: Rakp1
    password: bytes
    guid: bytes
    bmc_random: bytes

    @property
    def _user(self) -> bytes:
        return bytes([self.rakp1.role, len(self.rakp1.username)]) + self.rakp1.username

    def rakp2(self) -> bytes:
        """Our proof that we know the password (13.21)."""
        signed = (
            self.console_id + self.managed_id + self.rakp1.console_random + self.bmc_random + self.guid + self._user
        )
        head = bytes([self.rakp1.tag, Status.OK, 0, 0]) + self.console_id
        return head + self.bmc_random + self.guid + self.suite.mac(self.password, signed)

    def proves(self, rakp3: Rakp3) -> bool:
        """True if the client proved that it knows the password (13.22)."""
        signed = self.bmc_random + self.console_id + self._user
        return hmac.compare_digest(self.suite.mac(self.password, signed), rakp3.authcode)

    def _sik(self) -> bytes:
        return self.suite.mac(self.password, self.rakp1.console_random + self.bmc_random + self._user)

    def rakp4(self, tag: int) -> bytes:
        """The last message: both sides hold the same session integrity key (13.23)."""
        signed = self.rakp1.console_random + self.managed_id + self.guid
        return bytes([tag, Status.OK, 0, 0]) + self.console_id + self.suite.short_mac(self._sik(), signed)

    def keys(self) -> SessionKeys:
        """The session's keys."""
        return SessionKeys.derive(self.suite, self._sik())


def refusal(*, tag: int, status: Status, console_id: bytes) -> bytes:
    """A handshake answer that says why not."""
    return bytes([tag, status, 0, 0]) + console_id


def parse_open(payload: bytes) -> OpenRequest:
    """The Open Session Request (13.17). Raises MalformedPacket."""
    if len(payload) < 32:
        raise MalformedPacket("short Open Session Request")
    offered = (payload[12], payload[20], payload[28])
    suite = next((s for s in SUITES if (s.authentication, s.integrity, s.confidentiality) == offered), None)
    return OpenRequest(tag=payload[0], privilege=payload[1] & 0x0F, console_id=payload[4:8], suite=suite)


def open_response(request: OpenRequest, *, suite: CipherSuite, managed_id: bytes) -> bytes:
    """The Open Session Response that accepts (13.18). A request for "highest" (0) gets administrator."""
    head = bytes([request.tag, Status.OK, request.privilege or ADMINISTRATOR, 0]) + request.console_id + managed_id
    algorithms = (suite.authentication, suite.integrity, suite.confidentiality)
    return head + b"".join(struct.pack("<BHBBxxx", kind, 0, 8, value) for kind, value in enumerate(algorithms))


def parse_rakp1(payload: bytes) -> Rakp1:
    """RAKP message 1 (13.20). Raises MalformedPacket."""
    if len(payload) < 28 or len(payload) < 28 + payload[27]:
        raise MalformedPacket("short RAKP message 1")
    return Rakp1(
        tag=payload[0],
        managed_id=payload[4:8],
        console_random=payload[8:24],
        role=payload[24],
        username=payload[28 : 28 + payload[27]],
    )


def parse_rakp3(payload: bytes) -> Rakp3:
    """RAKP message 3 (13.22). Raises MalformedPacket."""
    if len(payload) < 8:
        raise MalformedPacket("short RAKP message 3")
    return Rakp3(tag=payload[0], status=payload[1], managed_id=payload[4:8], authcode=payload[8:])


def new_random() -> bytes:
    """16 fresh random bytes."""
    return os.urandom(16)
