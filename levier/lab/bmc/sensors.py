"""Sensors of a virtual machine: sensor data records and readings (IPMI 2.0 chapters 35 and 43)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

_SDR_VERSION = 0x51
_FULL_SENSOR = 0x01
_BMC_ADDRESS = 0x20
_THRESHOLD_READING = 0x01
_CAPABILITIES = 0x47
"""Re-arms itself, no hysteresis, thresholds readable, sends no events (table 43-1, byte 12)."""
_SCANNING = 0x40
_EVENTS_ENABLED = 0x80
_UNAVAILABLE = 0x20


class SensorType(IntEnum):
    """Sensor type codes (table 42-3)."""

    TEMPERATURE = 1
    VOLTAGE = 2
    FAN = 4
    POWER_SUPPLY = 8


class Unit(IntEnum):
    """Sensor unit codes (table 43-15)."""

    DEGREES_C = 1
    VOLTS = 4
    WATTS = 6
    RPM = 18


@dataclass(frozen=True, slots=True)
class Sensor:
    """One threshold sensor: value = raw × factor × 10^exponent. Raw bounds: lower and upper critical, upper warning."""

    number: int
    name: str
    kind: SensorType
    unit: Unit
    entity: int
    factor: int
    exponent: int
    raw: int
    lower_critical: int
    upper_warning: int
    upper_critical: int
    when_off: bool
    """Whether it still answers while the chassis is off."""

    def reading(self, *, power_on: bool) -> bytes:
        """The data of Get Sensor Reading (35.14)."""
        if not power_on and not self.when_off:
            return bytes([0, _EVENTS_ENABLED | _SCANNING | _UNAVAILABLE, 0xC0])
        crossed = (
            (self.raw <= self.lower_critical) << 1
            | (self.raw >= self.upper_warning) << 3
            | (self.raw >= self.upper_critical) << 4
        )
        return bytes([self.raw, _EVENTS_ENABLED | _SCANNING, 0xC0 | crossed])

    def thresholds(self) -> bytes:
        """The data of Get Sensor Thresholds (35.9): mask, then LNC, LC, LNR, UNC, UC, UNR."""
        return bytes([_READABLE, 0, self.lower_critical, 0, self.upper_warning, self.upper_critical, 0])

    def record(self, record_id: int) -> bytes:
        """The full sensor record (43.1)."""
        name = self.name.encode("ascii")
        body = struct.pack(
            "<BBBBBBBBBHHBBBBBBBBBBBBBBBBBBBBBBBBBBHBB",
            *(_BMC_ADDRESS, 0, self.number, self.entity, 1, 0x7F, _CAPABILITIES, self.kind, _THRESHOLD_READING),
            *(0, 0, _READABLE, 0),
            *(0, self.unit, 0, 0),
            *(self.factor & 0xFF, self.factor >> 2 & 0xC0, 0, 0, 0, self.exponent << 4 & 0xF0),
            *(0, self.raw, self.upper_warning, self.lower_critical, 0xFF, 0x00),
            *(0, self.upper_critical, self.upper_warning, 0, self.lower_critical, 0),
            *(0, 0, 0, 0, 0xC0 | len(name)),
        )
        head = struct.pack("<HBBB", record_id, _SDR_VERSION, _FULL_SENSOR, len(body) + len(name))
        return head + body + name


_READABLE = 0x02 | 0x08 | 0x10
"""Lower critical, upper non-critical, upper critical (table 35-9)."""

# Factors keep every reading inside one unsigned byte, as real boards do.
SENSORS: tuple[Sensor, ...] = (
    Sensor(1, "Inlet Temp", SensorType.TEMPERATURE, Unit.DEGREES_C, 0x37, 1, 0, 23, 3, 42, 47, when_off=True),
    Sensor(2, "CPU1 Temp", SensorType.TEMPERATURE, Unit.DEGREES_C, 0x03, 1, 0, 46, 3, 85, 95, when_off=False),
    Sensor(3, "FAN1", SensorType.FAN, Unit.RPM, 0x1D, 100, 0, 72, 5, 250, 255, when_off=False),
    Sensor(4, "FAN2", SensorType.FAN, Unit.RPM, 0x1D, 100, 0, 70, 5, 250, 255, when_off=False),
    Sensor(5, "12V", SensorType.VOLTAGE, Unit.VOLTS, 0x07, 6, -2, 201, 180, 220, 225, when_off=False),
    Sensor(6, "VBAT", SensorType.VOLTAGE, Unit.VOLTS, 0x28, 2, -2, 152, 130, 180, 190, when_off=True),
    Sensor(7, "PSU1 Power", SensorType.POWER_SUPPLY, Unit.WATTS, 0x0A, 4, 0, 32, 0, 180, 200, when_off=False),
)
