"""What Levier asks of a baseboard management controller: one protocol per capability, plain data in and out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class PowerState(StrEnum):
    """Chassis power as the BMC reports it."""

    ON = "on"
    OFF = "off"


class BootDevice(StrEnum):
    """Where a machine starts from (IPMI 2.0 section 28.12, Redfish BootSourceOverrideTarget)."""

    NONE = "none"
    """No override: the firmware's own order."""
    PXE = "pxe"
    DISK = "disk"
    CDROM = "cdrom"
    BIOS_SETUP = "bios-setup"


class Firmware(StrEnum):
    """Firmware interface of a boot."""

    BIOS = "bios"
    UEFI = "uefi"


@dataclass(frozen=True, slots=True)
class BootOverride:
    """The boot override in force. `device` NONE means there is none."""

    device: BootDevice
    persistent: bool = False
    firmware: Firmware = Firmware.BIOS


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and a password; never shown by repr."""

    username: str
    password: str

    def __repr__(self) -> str:
        return f"Credentials(username={self.username!r}, password=***)"


@dataclass(frozen=True, slots=True)
class BmcAddress:
    """Where a BMC listens."""

    host: str
    port: int = 623

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class SensorReading:
    """One sensor. `value` is None when the sensor is absent or does not answer."""

    name: str
    kind: str
    value: float | None
    unit: str
    health: str
    """`ok`, `warning`, `critical`, `failed` or `unknown`."""


@dataclass(frozen=True, slots=True)
class FruInventory:
    """Identity of the machine in its FRU storage; an absent field is an empty string."""

    manufacturer: str = ""
    product: str = ""
    serial: str = ""
    asset_tag: str = ""


class PowerControl(Protocol):
    """Chassis power. Every call returns only after the state was read back."""

    def power_state(self) -> PowerState:
        """The chassis power now. Safe to repeat."""
        ...

    def power_on(self, *, timeout_s: float = 60.0) -> None:
        """The chassis is on; no error if it already was."""
        ...

    def power_off(self, *, timeout_s: float = 60.0, believe_off: bool = True) -> None:
        """The chassis is off, at once and hard; no error if it already was.

        Without `believe_off` the command is sent although the BMC says off: a reading can be wrong.
        """
        ...

    def soft_off(self, *, timeout_s: float = 600.0) -> None:
        """The chassis is off after the OS shut down by ACPI; no error if it already was."""
        ...

    def reset(self) -> None:
        """A hard reset was accepted. NOT safe to repeat blindly: OutcomeUnknown asks the caller to observe."""
        ...


class BootDeviceControl(Protocol):
    """The next boot's source."""

    def boot_override(self) -> BootOverride:
        """The override now in force. Safe to repeat."""
        ...

    def set_boot_override(self, override: BootOverride) -> None:
        """The override is in force, read back where the BMC can say so. Safe to repeat."""
        ...


class HardwareInventory(Protocol):
    """What the BMC knows of the machine."""

    def sensors(self) -> tuple[SensorReading, ...]:
        """All sensor readings, by name. Safe to repeat."""
        ...

    def fru(self) -> FruInventory:
        """The machine's identity. Safe to repeat."""
        ...


class IdentifyLight(Protocol):
    """The identify LED."""

    def identify(self, *, on: bool, duration_s: int | None = None) -> None:
        """The LED is lit (for `duration_s`, or until switched off) or dark. Safe to repeat."""
        ...


class Bmc(PowerControl, BootDeviceControl, HardwareInventory, IdentifyLight, Protocol):
    """All capabilities of an ordinary BMC.

    All calls raise subclasses of `levier.domain.errors.DriverError`, are thread-safe, and are serialised and paced
    per BMC address inside the process.
    """

    @property
    def address(self) -> BmcAddress:
        """Where this BMC listens."""
        ...

    def close(self) -> None:
        """The session is logged out. Safe to repeat."""
        ...
