"""FRU storage: read in pieces that the BMC accepts, and the identity in it.

Read and parsed here, because pyghmi 1.6.19 gives up on a BMC that refuses its 224-byte reads with 0xC8 and on
6-bit text whose length is no multiple of three. Format: Platform Management FRU Information Storage Definition 1.0.
"""

from __future__ import annotations

import logging

from levier.domain import errors
from levier.domain.bmc import FruInventory

from . import completion
from .messages import NETFN_STORAGE, Message
from .pyghmi_port import IpmiSession

_log = logging.getLogger(__name__)

_FORMAT_VERSION = 1
_FIRST_CHUNK = 64
_SMALLEST_CHUNK = 8
_END_OF_FIELDS = 0xC1
_ENGLISH = (0, 25)
_BCD_PLUS = "0123456789 -.:,_"
_CHASSIS, _BOARD, _PRODUCT = 2, 3, 4
"""Positions of the areas' offsets in the common header."""


def read_identity(session: IpmiSession, *, device: int = 0) -> FruInventory:
    """The machine's identity. Raises Unsupported without FRU storage, MalformedReply for a corrupt one."""
    size, words = _storage_size(session, device)
    header = _read(session, device, words, slice(0, min(8, size)))
    if len(header) < 8 or header[0] & 0x0F != _FORMAT_VERSION:
        return FruInventory()  # never written: all 0xFF or all 0
    starts = [header[area] * 8 for area in (_CHASSIS, _BOARD, _PRODUCT) if header[area]]
    end = 8
    for start in starts:
        area = _read(session, device, words, slice(start, start + 2))
        end = max(end, start + area[1] * 8) if len(area) == 2 else end
    storage = header + _read(session, device, words, slice(8, min(end, size)))
    return parse_identity(storage, source=f"BMC {session.address}")


def _storage_size(session: IpmiSession, device: int) -> tuple[int, bool]:
    """Bytes of storage, and whether it is addressed in words (IPMI 2.0 section 34.1)."""
    message = Message(name="get FRU area info", netfn=NETFN_STORAGE, command=0x10, data=bytes([device]), reply_size=3)
    reply = session.exchange(message)
    if reply.code in completion.NO_SUCH_DEVICE:
        raise errors.Unsupported(
            f"BMC {session.address} has no FRU device {device}",
            hint="Name the machine's serial in the site file by hand.",
        )
    data = completion.checked(session.address, message, reply)
    return int.from_bytes(data[:2], "little"), bool(data[2] & 1)


def _read(session: IpmiSession, device: int, words: bool, span: slice) -> bytes:
    """Bytes `span` of the storage, or fewer when the BMC says that is all (IPMI 2.0 section 34.2)."""
    gathered = b""
    offset, chunk = span.start, _FIRST_CHUNK
    unit = 2 if words else 1
    while offset < span.stop:
        wanted = min(chunk, span.stop - offset)
        wanted += wanted % unit
        where = (offset // unit).to_bytes(2, "little")
        message = Message(
            name="read FRU data",
            netfn=NETFN_STORAGE,
            command=0x11,
            data=bytes([device]) + where + bytes([wanted // unit]),
            reply_size=1,
        )
        reply = session.exchange(message)
        if reply.code in completion.TOO_MUCH_AT_ONCE and chunk > _SMALLEST_CHUNK:
            chunk //= 2
            continue
        piece = completion.checked(session.address, message, reply)[1:]
        if not piece:
            break
        gathered += piece
        offset += len(piece)
    return gathered[: span.stop - span.start]


def parse_identity(storage: bytes, *, source: str) -> FruInventory:
    """The identity in FRU storage: product area first, then board and chassis. Empty for unwritten storage.

    `source` names the BMC in errors. Raises MalformedReply when an area runs past its end.
    """
    if len(storage) < 8 or storage[0] & 0x0F != _FORMAT_VERSION:
        return FruInventory()
    if sum(storage[:8]) % 256:
        _log.warning("%s: the checksum of the FRU header is wrong; reading on", source)
    try:
        chassis = _Area(storage, offset=storage[_CHASSIS] * 8, skip=3)
        board = _Area(storage, offset=storage[_BOARD] * 8, skip=6)
        product = _Area(storage, offset=storage[_PRODUCT] * 8, skip=3)
    except IndexError as error:
        raise errors.MalformedReply(
            f"{source}: the FRU storage ends inside an area", hint="Read again; if it repeats, rewrite the FRU."
        ) from error
    return FruInventory(
        manufacturer=product.text(0) or board.text(0),
        product=product.text(1) or board.text(1),
        serial=product.text(4, english=True) or chassis.text(1, english=True) or board.text(2, english=True),
        asset_tag=product.text(5),
    )


class _Area:
    """The fields of one area, the first of which comes after `skip` bytes; none when `offset` is 0."""

    def __init__(self, storage: bytes, *, offset: int, skip: int) -> None:
        """Raises IndexError when the storage ends first."""
        self._fields: list[tuple[int, bytes]] = []
        if not offset:
            return
        self._language = storage[offset + 2]
        position = offset + skip
        while storage[position] != _END_OF_FIELDS:
            kind, length = storage[position] >> 6, storage[position] & 0x3F
            raw = storage[position + 1 : position + 1 + length]
            if len(raw) < length:
                raise IndexError(position)
            self._fields.append((kind, raw))
            position += 1 + length

    def text(self, number: int, *, english: bool = False) -> str:
        """Field `number`, or an empty string. Serial numbers are English whatever the area's language is."""
        if number >= len(self._fields):
            return ""
        kind, raw = self._fields[number]
        return _text(kind, raw, english=english or self._language in _ENGLISH)


def _text(kind: int, raw: bytes, *, english: bool) -> str:
    """A field's text by its type code (section 13): binary as hex, BCD plus, 6-bit ASCII, or 8-bit text."""
    if kind == 0:
        return raw.hex()
    if kind == 1:
        return "".join(_BCD_PLUS[b >> 4] + _BCD_PLUS[b & 0x0F] for b in raw).strip()
    if kind == 2:
        bits = int.from_bytes(raw, "little")
        return "".join(chr(0x20 + (bits >> shift & 0x3F)) for shift in range(0, len(raw) * 8 - 5, 6)).strip()
    # Vendors pad with NUL, 0xFF and spaces; unwritten fields are all padding.
    if english:
        return raw.rstrip(b"\x00\xff ").decode("latin-1").strip("\x00 ")
    return raw.decode("utf-16-le", errors="replace").strip("\x00\uffff ")
