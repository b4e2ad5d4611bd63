"""System boot options of a BMC: the override of the next boot and when it stops to hold (IPMI 2.0 section 28.12)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from levier.domain.bmc import BootDevice, BootOverride, Firmware

VALID = 0x80
PERSISTENT = 0x40
EFI = 0x20
VALID_TIMEOUT_S = 60.0
KEEP_ON_TIMEOUT = 0x08
"""Bit of parameter 3: the valid bit is not cleared when no chassis control follows within 60 s."""

SET_IN_PROGRESS = 0
SERVICE_PARTITION = 1
VALID_BIT_CLEARING = 3
BOOT_INFO_ACKNOWLEDGE = 4
BOOT_FLAGS = 5
_SIZES = {SET_IN_PROGRESS: 1, VALID_BIT_CLEARING: 1, BOOT_INFO_ACKNOWLEDGE: 2, BOOT_FLAGS: 5}
_PARAMETER_VERSION = 1

DEVICE_CODES = {
    BootDevice.NONE: 0,
    BootDevice.PXE: 1,
    BootDevice.DISK: 2,
    BootDevice.CDROM: 5,
    BootDevice.BIOS_SETUP: 6,
}
_DEVICES = {code: device for device, code in DEVICE_CODES.items()}


class UnsupportedParameter(Exception):
    """This BMC has no such boot option."""


class InvalidValue(Exception):
    """The boot option exists, the value does not."""


@dataclass(slots=True)
class _Flags:
    data: bytes = bytes(5)
    set_at: float = 0.0
    acted_on: bool = False
    """A chassis control command came after the flags: the 60 s no longer count."""


class BootOptions:
    """The boot options of one BMC. `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._flags = _Flags()
        self._other: dict[int, bytes] = {
            SET_IN_PROGRESS: b"\x00",
            VALID_BIT_CLEARING: b"\x00",
            BOOT_INFO_ACKNOWLEDGE: b"\x00\x00",
        }

    def write(self, data: bytes) -> None:
        """The option is set. `data` is that of Set System Boot Options: selector, value.

        Raises UnsupportedParameter and InvalidValue; nothing changed then.
        """
        parameter, value = data[0] & 0x7F, data[1:]
        if parameter not in _SIZES:
            raise UnsupportedParameter
        if len(value) < _SIZES[parameter]:
            raise InvalidValue
        if parameter != BOOT_FLAGS:
            self._other[parameter] = value[: _SIZES[parameter]]
            return
        if value[1] >> 2 & 0x0F not in _DEVICES:
            raise InvalidValue
        self._flags = _Flags(data=value[:5], set_at=self._clock())

    def read(self, parameter: int) -> bytes:
        """The answer of Get System Boot Options for `parameter`. Raises UnsupportedParameter."""
        if parameter not in _SIZES:
            raise UnsupportedParameter
        self._expire()
        value = self._flags.data if parameter == BOOT_FLAGS else self._other[parameter]
        return bytes([_PARAMETER_VERSION, parameter]) + value

    def override(self) -> BootOverride:
        """The override in force now."""
        self._expire()
        first, second = self._flags.data[0], self._flags.data[1]
        if not first & VALID:
            return BootOverride(device=BootDevice.NONE)
        return BootOverride(
            device=_DEVICES[second >> 2 & 0x0F],
            persistent=bool(first & PERSISTENT),
            firmware=Firmware.UEFI if first & EFI else Firmware.BIOS,
        )

    def chassis_control_came(self) -> None:
        """The flags hold until the next boot, however late it comes."""
        self._flags.acted_on = True

    def consume(self) -> BootOverride:
        """The override for the boot that starts now; a one-shot override is used up."""
        override = self.override()
        if not override.persistent:
            self._clear_valid()
        return override

    def _expire(self) -> None:
        kept = self._flags.acted_on or self._other[VALID_BIT_CLEARING][0] & KEEP_ON_TIMEOUT
        one_shot = not self._flags.data[0] & PERSISTENT
        if one_shot and not kept and self._clock() - self._flags.set_at > VALID_TIMEOUT_S:
            self._clear_valid()

    def _clear_valid(self) -> None:
        self._flags.data = bytes([self._flags.data[0] & ~VALID]) + self._flags.data[1:]
