"""IPMI on the wire: RMCP, session headers and messages (IPMI 2.0 chapter 13), without any state."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

RMCP_HEADER = b"\x06\x00\xff\x07"
"""Version 1.0, no acknowledgement, class IPMI (table 13-1)."""
AUTH_TYPE_NONE = 0x00
AUTH_TYPE_RMCPP = 0x06
NEXT_HEADER = 0x07
ENCRYPTED = 0x80
AUTHENTICATED = 0x40


class PayloadType(IntEnum):
    """RMCP+ payload types in use (table 13-16)."""

    IPMI = 0x00
    OPEN_REQUEST = 0x10
    OPEN_RESPONSE = 0x11
    RAKP1 = 0x12
    RAKP2 = 0x13
    RAKP3 = 0x14
    RAKP4 = 0x15


class MalformedPacket(ValueError):
    """The bytes are no IPMI packet: a BMC drops such silently."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One datagram, taken apart as far as is possible without keys.

    `covered` is what an integrity trailer signs; `authcode` is the trailer's signature, empty without one.
    """

    v2: bool
    payload_type: int
    encrypted: bool
    authenticated: bool
    session_id: int
    sequence: int
    payload: bytes
    covered: bytes = b""
    authcode: bytes = b""


@dataclass(frozen=True, slots=True)
class Request:
    """An IPMI request message (figure 13-4)."""

    responder: int
    netfn: int
    responder_lun: int
    requester: int
    sequence: int
    requester_lun: int
    command: int
    data: bytes

    def response(self, code: int, data: bytes = b"") -> bytes:
        """The response message with completion code `code`."""
        head = bytes([self.requester, (self.netfn + 1) << 2 | self.requester_lun])
        body = bytes([self.responder, self.sequence << 2 | self.responder_lun, self.command, code]) + data
        return head + bytes([checksum(head)]) + body + bytes([checksum(body)])


def checksum(data: bytes) -> int:
    """The two's complement checksum of IPMB."""
    return -sum(data) & 0xFF


def parse_packet(datagram: bytes, *, authcode_size: int = 0) -> Packet:
    """The datagram's session header and payload. `authcode_size` is that of the session it turns out to belong to.

    Raises MalformedPacket.
    """
    if len(datagram) < 5 or datagram[0] != 6 or datagram[3] & 0x1F != 7:
        raise MalformedPacket("no RMCP packet of class IPMI")
    body = datagram[4:]
    try:
        return _parse_v2(body, authcode_size) if body[0] == AUTH_TYPE_RMCPP else _parse_v15(body)
    except (IndexError, struct.error) as error:
        raise MalformedPacket("truncated IPMI packet") from error


def _parse_v15(body: bytes) -> Packet:
    if body[0] != AUTH_TYPE_NONE:
        raise MalformedPacket("IPMI 1.5 authentication is not offered")
    sequence, session_id, length = struct.unpack_from("<IIB", body, 1)
    return Packet(
        v2=False,
        payload_type=PayloadType.IPMI,
        encrypted=False,
        authenticated=False,
        session_id=session_id,
        sequence=sequence,
        payload=_exactly(body, 10, length),
    )


def _parse_v2(body: bytes, authcode_size: int) -> Packet:
    kind, session_id, sequence, length = struct.unpack_from("<BIIH", body, 1)
    authenticated = bool(kind & AUTHENTICATED)
    covered_size = len(body) - authcode_size if authenticated else 0
    return Packet(
        v2=True,
        payload_type=kind & 0x3F,
        encrypted=bool(kind & ENCRYPTED),
        authenticated=authenticated,
        session_id=session_id,
        sequence=sequence,
        payload=_exactly(body, 12, length),
        covered=body[:covered_size],
        authcode=body[covered_size:] if authenticated else b"",
    )


def _exactly(body: bytes, start: int, length: int) -> bytes:
    payload = body[start : start + length]
    if len(payload) != length:
        raise MalformedPacket("payload shorter than its length field")
    return payload


def parse_request(payload: bytes) -> Request:
    """The request message in an IPMI payload. Raises MalformedPacket, for a wrong checksum too."""
    if len(payload) < 7 or checksum(payload[:2]) != payload[2] or checksum(payload[3:-1]) != payload[-1]:
        raise MalformedPacket("IPMI message with a wrong length or checksum")
    return Request(
        responder=payload[0],
        netfn=payload[1] >> 2,
        responder_lun=payload[1] & 3,
        requester=payload[3],
        sequence=payload[4] >> 2,
        requester_lun=payload[4] & 3,
        command=payload[5],
        data=payload[6:-1],
    )


def build_v15(payload: bytes) -> bytes:
    """A datagram outside any session in the IPMI 1.5 form."""
    return RMCP_HEADER + struct.pack("<BIIB", AUTH_TYPE_NONE, 0, 0, len(payload)) + payload


def build_v2(payload: bytes, *, kind: int, session_id: int = 0, sequence: int = 0) -> bytes:
    """A datagram in the RMCP+ form, without an integrity trailer. `kind`: payload type with its flag bits."""
    return RMCP_HEADER + struct.pack("<BBIIH", AUTH_TYPE_RMCPP, kind, session_id, sequence, len(payload)) + payload


def with_trailer(datagram: bytes) -> bytes:
    """The datagram padded up to the place of its authcode (section 13.28.4): pad, pad length, next header."""
    covered = len(datagram) - len(RMCP_HEADER)
    pad = -(covered + 2) % 4
    return datagram + b"\xff" * pad + bytes([pad, NEXT_HEADER])
