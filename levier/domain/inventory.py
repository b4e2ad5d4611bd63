"""What a machine is made of, as its ramdisk or its operating system reports it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Disk(_Frozen):
    """One block device. `name` is the kernel's (`vda`, `sda`, `nvme0n1`), without `/dev/`."""

    name: str
    size_bytes: int = Field(ge=0)
    model: str = ""
    serial: str = ""
    wwn: str = ""
    rotational: bool = False


class Nic(_Frozen):
    """One network interface; `mac` is lower case with colons."""

    name: str
    mac: str
    link: bool = False


class Inventory(_Frozen):
    """A machine seen from inside (in-band)."""

    serial: str = ""
    vendor: str = ""
    product: str = ""
    cpu_model: str = ""
    cpu_count: int = Field(default=0, ge=0)
    memory_mib: int = Field(default=0, ge=0)
    firmware: str = ""
    """`bios` or `uefi`: how this boot was started."""
    disks: tuple[Disk, ...] = ()
    nics: tuple[Nic, ...] = ()


class HostFacts(_Frozen):
    """A running host seen over SSH."""

    hostname: str
    os_id: str
    """`ID` of os-release(5): `debian`."""
    os_version: str
    """`VERSION_ID` of os-release(5): `12`."""
    os_pretty: str
    kernel: str
    machine_id: str
    boot_id: str
    cpu_count: int
    memory_mib: int
    disks: tuple[Disk, ...] = ()
    nics: tuple[Nic, ...] = ()
