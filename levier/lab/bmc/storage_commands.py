"""Sensor and storage commands: readings, SDR repository, FRU and event log (IPMI 2.0 chapters 31, 33, 34, 35)."""

from __future__ import annotations

import struct
import time

from levier.lab.bmc.device import EventLog
from levier.lab.bmc.dispatch import Call, Code, Command, CompletionError, Privilege, Table
from levier.lab.bmc.sensors import Sensor

_LAST = 0xFFFF
_CHUNK = 0xFF
_IPMI_1_5_SDR = 0x51
_MOST_BYTES = 200
"""The longest piece handed out in one answer, far below what a session's packet may carry."""


def _now() -> int:
    return int(time.time())


def _sensor(call: Call, number: int) -> Sensor:
    sensor = call.device.sensors.get(number)
    if sensor is None:
        raise CompletionError(Code.NOT_PRESENT)
    return sensor


def _reading(call: Call, data: bytes) -> bytes:
    return _sensor(call, data[0]).reading(power_on=call.device.hardware.powered)


def _thresholds(call: Call, data: bytes) -> bytes:
    return _sensor(call, data[0]).thresholds()


def _hysteresis(call: Call, data: bytes) -> bytes:
    _sensor(call, data[0])
    return b"\x00\x00"


def _event_enable(call: Call, data: bytes) -> bytes:
    _sensor(call, data[0])
    return b"\xc0\x00\x00\x00\x00"


def _sdr_info(call: Call, data: bytes) -> bytes:
    return struct.pack("<BHHIIB", _IPMI_1_5_SDR, len(call.device.records), 0, 0, 0, 0x22)


def _reserve_sdr(call: Call, data: bytes) -> bytes:
    call.device.sdr_reservation = call.device.sdr_reservation % 0xFFFE + 1
    return struct.pack("<H", call.device.sdr_reservation)


def _get_sdr(call: Call, data: bytes) -> bytes:
    reservation, record_id, offset, count = struct.unpack_from("<HHBB", data)
    if offset and reservation != call.device.sdr_reservation:
        raise CompletionError(Code.RESERVATION_CANCELLED)
    records = call.device.records
    index = {0: 0, _LAST: len(records) - 1}.get(record_id, record_id - 1)
    if not 0 <= index < len(records):
        raise CompletionError(Code.NOT_PRESENT)
    following = index + 2 if index + 1 < len(records) else _LAST
    return struct.pack("<H", following) + _piece(records[index], offset, count)


def _piece(content: bytes, offset: int, count: int) -> bytes:
    if offset >= len(content):
        raise CompletionError(Code.OUT_OF_RANGE)
    piece = content[offset:] if count == _CHUNK else content[offset : offset + count]
    if len(piece) > _MOST_BYTES:
        raise CompletionError(Code.TOO_MANY_BYTES)
    return piece


def _fru_info(call: Call, data: bytes) -> bytes:
    if data[0] != 0:
        raise CompletionError(Code.NOT_PRESENT)
    return struct.pack("<HB", len(call.device.fru), 0)


def _read_fru(call: Call, data: bytes) -> bytes:
    if data[0] != 0:
        raise CompletionError(Code.NOT_PRESENT)
    offset, count = struct.unpack_from("<HB", data, 1)
    piece = _piece(call.device.fru, offset, min(count, _MOST_BYTES))
    return bytes([len(piece)]) + piece


def _sel_info(call: Call, data: bytes) -> bytes:
    log = call.device.event_log
    free = (EventLog.CAPACITY - len(log.records)) * 16
    return struct.pack("<BHHIIB", 0x51, len(log.records), free, log.added_at, log.erased_at, 0x02)


def _reserve_sel(call: Call, data: bytes) -> bytes:
    log = call.device.event_log
    log.reservation = log.reservation % 0xFFFE + 1
    return struct.pack("<H", log.reservation)


def _get_sel(call: Call, data: bytes) -> bytes:
    _, record_id, offset, count = struct.unpack_from("<HHBB", data)
    records = call.device.event_log.records
    index = {0: 0, _LAST: len(records) - 1}.get(record_id, record_id - 1)
    if not 0 <= index < len(records):
        raise CompletionError(Code.NOT_PRESENT)
    following = index + 2 if index + 1 < len(records) else _LAST
    return struct.pack("<H", following) + _piece(records[index], offset, count)


def _add_sel(call: Call, data: bytes) -> bytes:
    log = call.device.event_log
    if len(log.records) >= EventLog.CAPACITY:
        raise CompletionError(Code.OUT_OF_SPACE)
    return struct.pack("<H", log.add(data, now=_now()))


def _clear_sel(call: Call, data: bytes) -> bytes:
    log = call.device.event_log
    if struct.unpack_from("<H", data)[0] != log.reservation:
        raise CompletionError(Code.RESERVATION_CANCELLED)
    if data[2:5] != b"CLR":
        raise CompletionError(Code.INVALID_FIELD)
    if data[5] == 0xAA:
        log.clear(now=_now())
    return b"\x01"


def _sel_time(call: Call, data: bytes) -> bytes:
    return struct.pack("<I", _now())


STORAGE_COMMANDS: Table = {
    (0x04, 0x25): Command("Get Sensor Hysteresis", _hysteresis, Privilege.USER, 1),
    (0x04, 0x27): Command("Get Sensor Thresholds", _thresholds, Privilege.USER, 1),
    (0x04, 0x29): Command("Get Sensor Event Enable", _event_enable, Privilege.USER, 1),
    (0x04, 0x2D): Command("Get Sensor Reading", _reading, Privilege.USER, 1),
    (0x0A, 0x10): Command("Get FRU Inventory Area Info", _fru_info, Privilege.USER, 1),
    (0x0A, 0x11): Command("Read FRU Data", _read_fru, Privilege.USER, 4),
    (0x0A, 0x20): Command("Get SDR Repository Info", _sdr_info),
    (0x0A, 0x22): Command("Reserve SDR Repository", _reserve_sdr),
    (0x0A, 0x23): Command("Get SDR", _get_sdr, Privilege.USER, 6),
    (0x0A, 0x40): Command("Get SEL Info", _sel_info),
    (0x0A, 0x42): Command("Reserve SEL", _reserve_sel),
    (0x0A, 0x43): Command("Get SEL Entry", _get_sel, Privilege.USER, 6),
    (0x0A, 0x44): Command("Add SEL Entry", _add_sel, Privilege.OPERATOR, 16),
    (0x0A, 0x47): Command("Clear SEL", _clear_sel, Privilege.OPERATOR, 6),
    (0x0A, 0x48): Command("Get SEL Time", _sel_time),
}
