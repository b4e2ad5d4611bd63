"""Builds the FRU inventory of a machine (IPMI Platform Management FRU Information Storage Definition 1.0)."""

from __future__ import annotations

from dataclasses import dataclass

from levier.lab.bmc.wire import checksum

_VERSION = 1
_ENGLISH = 25
_END = 0xC1
_ASCII = 0xC0
_HEADER_SIZE = 8
_MAIN_CHASSIS = 0x11
"""SMBIOS chassis type: main server chassis."""


@dataclass(frozen=True, slots=True)
class FruIdentity:
    """What the FRU storage says of the machine."""

    manufacturer: str
    product: str
    part_number: str
    version: str
    serial: str
    asset_tag: str


def build_fru(identity: FruIdentity) -> bytes:
    """The whole FRU storage: common header, chassis, board and product area."""
    chassis = _area(bytes([_MAIN_CHASSIS]), (identity.part_number, identity.serial))
    board = _area(
        bytes([_ENGLISH, 0, 0, 0]),
        (identity.manufacturer, identity.product, identity.serial, identity.part_number, ""),
    )
    product = _area(
        bytes([_ENGLISH]),
        (
            identity.manufacturer,
            identity.product,
            identity.part_number,
            identity.version,
            identity.serial,
            identity.asset_tag,
            "",
        ),
    )
    board_at = _HEADER_SIZE + len(chassis)
    product_at = board_at + len(board)
    header = bytes([_VERSION, 0, _HEADER_SIZE // 8, board_at // 8, product_at // 8, 0, 0])
    return header + bytes([checksum(header)]) + chassis + board + product


def _area(head: bytes, fields: tuple[str, ...]) -> bytes:
    content = head + b"".join(_field(text) for text in fields) + bytes([_END])
    size = (len(content) + 3 + 7) // 8 * 8
    area = bytes([_VERSION, size // 8]) + content
    area += bytes(size - len(area) - 1)
    return area + bytes([checksum(area)])


def _field(text: str) -> bytes:
    # One character would read as the end mark (0xC1): section 13 of the definition allows a trailing blank.
    value = text.encode("latin-1")[:63]
    if len(value) == 1:
        value += b" "
    return bytes([_ASCII | len(value)]) + value
