"""Sensors: the sensor data records of a BMC, and one reading for each.

The records are fetched here and decoded by pyghmi. Its own fetching keeps a process-wide cache whose key two BMCs of
one model share, never ends when a BMC keeps refusing, and does not know device SDRs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from levier.domain import errors
from levier.domain.bmc import SensorReading

from . import completion
from .messages import DEVICE_ID, NETFN_SENSOR, NETFN_STORAGE, Message
from .pyghmi_port import IpmiSession, SensorRecord

_log = logging.getLogger(__name__)

_SENSOR_RECORDS = (0x01, 0x02)
"""Full and compact records (IPMI 2.0 section 43); the others describe no readable sensor."""
_BMC = 0x20
_HEADER = 5
_LAST = 0xFFFF
_MOST_RECORDS = 4096
_MOST_RESERVATIONS = 8
_SUPPORTS_SDR_REPOSITORY = 0x02
_SUPPORTS_SENSORS = 0x01
_FIRST_CHUNK = 32
_SMALLEST_CHUNK = 4


def read_sensors(session: IpmiSession) -> tuple[SensorReading, ...]:
    """All sensors of the BMC itself, by name. Raises Unsupported when the BMC describes none."""
    readings = [_reading(session, record) for record in _sensor_records(session)]
    return tuple(sorted(readings, key=lambda reading: reading.name))


def _sensor_records(session: IpmiSession) -> Iterator[SensorRecord]:
    seen: set[tuple[int, int]] = set()
    for raw in _RecordReader(session).records():
        if len(raw) < _HEADER or raw[3] not in _SENSOR_RECORDS:
            continue
        try:
            record = SensorRecord(raw)
        except ValueError as error:
            _log.warning("BMC %s: a sensor is left out: %s", session.address, error)
            continue
        # A BMC that stored its records twice lists every sensor twice; other owners sit behind a bridge.
        if record.owner == _BMC and (record.number, record.lun) not in seen:
            seen.add((record.number, record.lun))
            yield record


def _reading(session: IpmiSession, record: SensorRecord) -> SensorReading:
    """Get Sensor Reading, IPMI 2.0 section 35.14; a sensor that does not answer has no value."""
    absent = SensorReading(name=record.name, kind=record.kind, value=None, unit=record.unit, health="unknown")
    message = Message(
        name=f"read sensor {record.name}",
        netfn=NETFN_SENSOR,
        command=0x2D,
        data=bytes([record.number]),
        reply_size=2,
        lun=record.lun,
    )

    def factors(sensor: int, raw: int) -> bytes:
        ask = Message(
            name=f"get reading factors of {record.name}",
            netfn=NETFN_SENSOR,
            command=0x23,
            data=bytes([sensor, raw & 0xFF]),
            reply_size=7,
            lun=record.lun,
        )
        return session.ask(ask)

    try:
        decoded = record.decode(session.ask(message), factors)
    except errors.Busy:
        raise
    except (ValueError, errors.Rejected, errors.Unsupported, errors.MalformedReply) as error:
        _log.info("BMC %s: sensor %s has no reading: %s", session.address, record.name, error)
        return absent
    return SensorReading(
        name=record.name, kind=record.kind, value=decoded.value, unit=record.unit, health=decoded.health
    )


class _RecordReader:
    """Reads sensor data records piece by piece (IPMI 2.0 sections 33.12 and 35.3)."""

    def __init__(self, session: IpmiSession) -> None:
        self._session = session
        support = session.ask(DEVICE_ID)[5]
        if support & _SUPPORTS_SDR_REPOSITORY:
            self._netfn, self._get, self._reserve = NETFN_STORAGE, 0x23, 0x22
        elif support & _SUPPORTS_SENSORS:
            self._netfn, self._get, self._reserve = NETFN_SENSOR, 0x21, 0x22
        else:
            raise errors.Unsupported(
                f"BMC {session.address} describes no sensors", hint="Read the sensors inside the host instead."
            )
        self._reservation = b"\x00\x00"
        self._reservations = 0
        self._chunk = _FIRST_CHUNK

    def records(self) -> Iterator[bytes]:
        """Every record, in the BMC's order. Raises MalformedReply when the chain of records does not end."""
        following = 0
        for _ in range(_MOST_RECORDS):
            following, record = self._record(following)
            if record:
                yield record
            if following == _LAST:
                return
        raise errors.MalformedReply(
            f"BMC {self._session.address} lists sensor records without end", hint="Restart or update the BMC."
        )

    def _record(self, record_id: int) -> tuple[int, bytes]:
        """The next record's id, and this record."""
        following, record = self._piece(record_id, 0, _HEADER)
        if record_id == 0 and not record:
            return _LAST, b""
        if len(record) < _HEADER:
            raise self._broken(record_id)
        size = _HEADER + record[4]
        while len(record) < size:
            _, piece = self._piece(record_id, len(record), min(self._chunk, size - len(record)))
            if not piece:
                raise self._broken(record_id)
            record += piece
        return following, record

    def _piece(self, record_id: int, offset: int, size: int) -> tuple[int, bytes]:
        """The next record's id, and up to `size` bytes of this one. Reserves again when the BMC cancels."""
        while True:
            if offset and self._reservation == b"\x00\x00":
                self._renew()
            where = self._reservation + record_id.to_bytes(2, "little") + bytes([offset, size])
            message = Message(name="get sensor record", netfn=self._netfn, command=self._get, data=where, reply_size=2)
            reply = self._session.exchange(message)
            if reply.code == completion.NOT_PRESENT and record_id == 0 and not offset:
                return _LAST, b""  # an empty repository
            if reply.code == completion.RESERVATION_LOST and self._reservations < _MOST_RESERVATIONS:
                self._renew()
            elif reply.code in completion.TOO_MUCH_AT_ONCE and size > _SMALLEST_CHUNK and offset:
                size = self._chunk = max(_SMALLEST_CHUNK, size // 2)
            else:
                data = completion.checked(self._session.address, message, reply)
                return int.from_bytes(data[:2], "little"), data[2:]

    def _renew(self) -> None:
        self._reservations += 1
        message = Message(name="reserve sensor records", netfn=self._netfn, command=self._reserve, reply_size=2)
        self._reservation = self._session.ask(message)[:2]

    def _broken(self, record_id: int) -> errors.MalformedReply:
        return errors.MalformedReply(
            f"BMC {self._session.address} cut sensor record {record_id} short", hint="Restart or update the BMC."
        )
