"""What a BMC is apart from its network side: identity, boot options, identify light, FRU, sensors and event log."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import IntEnum
from typing import Protocol

from levier.lab.bmc.bootflags import BootOptions
from levier.lab.bmc.fru import FruIdentity, build_fru
from levier.lab.bmc.sensors import SENSORS, Sensor


class ChassisAction(IntEnum):
    """Chassis Control requests that this BMC knows (IPMI 2.0 table 28-4)."""

    OFF = 0
    ON = 1
    CYCLE = 2
    RESET = 3
    SOFT_OFF = 5


class Hardware(Protocol):
    """The machine behind a BMC."""

    @property
    def powered(self) -> bool:
        """Whether the chassis has power now."""
        ...

    def request(self, action: ChassisAction) -> None:
        """The action will be carried out, after those asked for before it."""
        ...


class IdentifyLight:
    """The identify LED: dark, lit for a while, or lit until further notice."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: float = 0.0

    def light(self, *, duration_s: float, forever: bool) -> None:
        """The LED is lit; a duration of 0 makes it dark."""
        self._until = float("inf") if forever else self._clock() + duration_s

    @property
    def lit(self) -> bool:
        """Whether the LED is lit now."""
        return self._clock() < self._until

    @property
    def chassis_bits(self) -> int:
        """Bits 5:4 of the miscellaneous chassis state (table 28-3): off, timed, indefinite."""
        if not self.lit:
            return 0x00
        return 0x20 if self._until == float("inf") else 0x10


class EventLog:
    """A system event log of 16-byte records (chapter 31)."""

    CAPACITY = 512

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.added_at = 0
        self.erased_at = 0
        self.reservation = 0

    def add(self, record: bytes, *, now: int) -> int:
        """The record is stored under the returned id, which replaces its first two bytes."""
        number = len(self.records) + 1
        self.records.append(number.to_bytes(2, "little") + record[2:16])
        self.added_at = now
        return number

    def clear(self, *, now: int) -> None:
        """The log is empty."""
        self.records.clear()
        self.erased_at = now


class BmcDevice:
    """One BMC without its network side."""

    def __init__(self, *, hardware: Hardware, guid: bytes, identity: FruIdentity) -> None:
        self.hardware = hardware
        self.guid = guid
        self.fru = build_fru(identity)
        self.boot_options = BootOptions()
        self.identify = IdentifyLight()
        self.event_log = EventLog()
        self.sensors: dict[int, Sensor] = {sensor.number: sensor for sensor in SENSORS}
        self.records = [sensor.record(index) for index, sensor in enumerate(SENSORS, start=1)]
        self.sdr_reservation = 0
        self.restore_policy = 0
        """0: stays off after AC comes back; the only policy this machine has."""
