"""FRU storage and sensor data records as bytes, for BMCs that tests start."""

from __future__ import annotations

import struct


def fru_storage(*, manufacturer: str, product: str, serial: str, asset_tag: str) -> bytes:
    """A common header and a product area (Platform Management FRU Information Storage Definition 1.0)."""

    def text(value: str) -> bytes:
        raw = value.encode("latin-1")
        return bytes([0xC0 | len(raw)]) + raw

    fields = (manufacturer, product, "PN-1", "v1", serial, asset_tag, "")
    body = b"".join(text(field) for field in fields) + b"\xc1"
    padding = -(3 + len(body) + 1) % 8
    area = bytes([1, (3 + len(body) + padding + 1) // 8, 25]) + body + bytes(padding)
    header = bytes([1, 0, 0, 0, 1, 0, 0])
    return _sealed(header) + _sealed(area)


def _sealed(data: bytes) -> bytes:
    return data + bytes([-sum(data) % 256])


def full_sensor_record(*, record_id: int, number: int, name: str, sensor_type: int, unit: int, m: int) -> bytes:
    """A linear threshold sensor `value = m * raw` (IPMI 2.0 section 43.1)."""
    body = struct.pack("<BBB", 0x20, 0, number)  # owner, LUN, number
    body += bytes([7, 1, 0x7F, 0x68, sensor_type, 0x01])  # system board, initialised, thresholds, reading type
    body += bytes(6)  # event masks
    body += bytes([0, unit, 0])  # unsigned
    body += bytes([0, m & 0xFF, (m >> 2) & 0xC0, 0, 0, 0, 0])  # linear, M, B, exponents
    body += bytes([0, 0, 0, 0, 0xFF, 0])  # characteristics, nominal, normal, extremes
    body += bytes(6) + bytes([1, 1]) + bytes(2) + bytes([0])  # thresholds, hysteresis, OEM
    raw = name.encode("latin-1")
    body += bytes([0xC0 | len(raw)]) + raw
    return struct.pack("<HBBB", record_id, 0x51, 0x01, len(body)) + body
