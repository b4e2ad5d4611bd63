"""Boot flags on the wire: Set/Get System Boot Options parameter 5 (IPMI 2.0 table 28-14)."""

from __future__ import annotations

from dataclasses import dataclass

from levier.domain import errors
from levier.domain.bmc import BmcAddress, BootDevice, BootOverride, Firmware

from .messages import NETFN_CHASSIS, Delivery, Message

_VALID = 0x80
_PERSISTENT = 0x40
_EFI = 0x20
_PARAMETER_INVALID = 0x80
_WITH_DEVICE = 4

_CODE = {
    BootDevice.NONE: 0b0000,
    BootDevice.PXE: 0b0001,
    BootDevice.DISK: 0b0010,
    BootDevice.CDROM: 0b0101,
    BootDevice.BIOS_SETUP: 0b0110,
}
_DEVICE = {code: device for device, code in _CODE.items()} | {
    0b0011: BootDevice.DISK,  # safe mode
    0b1000: BootDevice.CDROM,  # remote
    0b1011: BootDevice.DISK,  # remote
}

GET_BOOT_FLAGS = Message(name="get boot flags", netfn=NETFN_CHASSIS, command=0x09, data=bytes([5, 0, 0]), reply_size=2)
KEEP_FLAGS_PAST_60_S = Message(
    name="keep boot flags past 60 s",
    netfn=NETFN_CHASSIS,
    command=0x08,
    data=bytes([3, 0x08]),
    delivery=Delivery.REPEATABLE,
)
"""Parameter 3: without it the flags lapse 60 s after they were set when no chassis command follows."""


def set_boot_flags(override: BootOverride) -> Message:
    """The request that puts `override` in force; for NONE, one that clears the flags."""
    flags = 0
    if override.device is not BootDevice.NONE:
        flags = _VALID
        flags |= _PERSISTENT if override.persistent else 0
        flags |= _EFI if override.firmware is Firmware.UEFI else 0
    return Message(
        name=f"set boot flags {override.device.value}",
        netfn=NETFN_CHASSIS,
        command=0x08,
        data=bytes([5, flags, _CODE[override.device] << 2, 0, 0, 0]),
        delivery=Delivery.REPEATABLE,
    )


@dataclass(frozen=True, slots=True)
class BootReport:
    """What a BMC says about its boot flags. `valid` False: it does not vouch for `override`."""

    valid: bool
    override: BootOverride

    @property
    def in_force(self) -> BootOverride:
        """The override that counts: none, unless the BMC vouches for it."""
        return self.override if self.valid else BootOverride(BootDevice.NONE)


def read_boot_flags(address: BmcAddress, reply: bytes) -> BootReport:
    """The report in a reply to GET_BOOT_FLAGS. Raises Unsupported for a device that Levier has no word for."""
    if len(reply) < _WITH_DEVICE:
        return BootReport(valid=False, override=BootOverride(BootDevice.NONE))
    code = reply[3] >> 2 & 0b1111
    if code not in _DEVICE:
        raise errors.Unsupported(
            f"BMC {address} has boot override number {code} in force, which Levier has no word for",
            hint="Set another boot device, or clear the override.",
        )
    valid = not reply[1] & _PARAMETER_INVALID and bool(reply[2] & _VALID)
    device = _DEVICE[code]
    if device is BootDevice.NONE:
        return BootReport(valid=valid, override=BootOverride(device))
    firmware = Firmware.UEFI if reply[2] & _EFI else Firmware.BIOS
    return BootReport(
        valid=valid, override=BootOverride(device, persistent=bool(reply[2] & _PERSISTENT), firmware=firmware)
    )
