"""Which disk becomes the root disk: exactly the one that the hints name, or none."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict

from levier.domain.errors import Rejected
from levier.domain.inventory import Disk
from levier.domain.site_types import Line, refuse

GIB = 1024**3


def _kernel_name(value: str) -> str:
    name = value.removeprefix("/dev/")
    if not re.fullmatch(r"[a-z][a-z0-9]*", name):
        raise refuse(f"{value!r} is not the kernel's name of a disk", "expected something like sda or nvme0n1")
    return name


class RootDeviceHints(BaseModel):
    """What the root disk is known by; all hints given must match, and exactly one disk may match them."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    serial: Line | None = None
    """The disk's serial number; upper or lower case alike."""
    model: Line | None = None
    """The disk's model; upper or lower case and runs of blanks alike."""
    wwn: Line | None = None
    """The disk's World Wide Name, with or without `0x`, `naa.`, `eui.` or `wwn-` before it."""
    name: Annotated[Line, AfterValidator(_kernel_name)] | None = None
    """The kernel's name of the disk, such as `sda`; the least reliable hint, since it may change between boots."""
    min_size_gib: Annotated[int, Strict(), Field(ge=1)] | None = None
    """The smallest size in GiB (a disk sold as 480 GB has 447 GiB)."""
    max_size_gib: Annotated[int, Strict(), Field(ge=1)] | None = None
    """The largest size in GiB."""
    rotational: Annotated[bool, Strict()] | None = None
    """`true`: a disk with platters; `false`: solid state."""

    def given(self) -> dict[str, object]:
        """The hints that were given, by name."""
        return self.model_dump(exclude_none=True)


def choose_root_disk(disks: Sequence[Disk], hints: RootDeviceHints | None, required_bytes: int) -> Disk:
    """The one disk that matches every hint and holds `required_bytes`; without hints, the machine's only disk.

    Pure: the same arguments always give the same disk, whatever their order. Size is no tie-breaker: with several
    matching disks the choice would change with the image (docs/decisions/0052).
    Raises Rejected when none or several match or the one is too small, with every disk and why it does not match.
    """
    wanted = hints or RootDeviceHints()
    matching = [disk for disk in disks if not _differences(disk, wanted)]
    if not disks:
        raise Rejected(
            "the machine reports no disk", hint="check the disk controller and its cabling, then inspect again"
        )
    if len(matching) != 1:
        raise Rejected(_ambiguity(disks, wanted, len(matching)), hint=_way_out(wanted))
    disk = matching[0]
    if disk.size_bytes < required_bytes:
        message = f"disk {describe(disk)} is too small: the image needs {gib(required_bytes)}"
        raise Rejected(message, hint="name a larger disk in root_device, or use a smaller image")
    return disk


def describe(disk: Disk) -> str:
    """The disk in one line: name, size, kind, and what identifies it."""
    kind = "rotational" if disk.rotational else "solid state"
    known = (("model", disk.model), ("serial", disk.serial), ("wwn", disk.wwn))
    return ", ".join([f"{disk.name} ({gib(disk.size_bytes)}", kind, *(f"{k} {v}" for k, v in known if v)]) + ")"


def gib(size_bytes: int) -> str:
    """`size_bytes` in GiB with two decimals, or in bytes below 10 MiB."""
    return f"{size_bytes / GIB:.2f} GiB" if size_bytes >= 10 * 1024**2 else f"{size_bytes} bytes"


def _ambiguity(disks: Sequence[Disk], hints: RootDeviceHints, count: int) -> str:
    given = ", ".join(f"{name}={value}" for name, value in hints.given().items())
    asked = f"the root device hints ({given})" if given else "a machine without root device hints"
    verdict = {0: f"no disk matches {asked}"}.get(count, f"{count} disks match {asked}, exactly one must")
    lines = [f"  {describe(disk)}: {'; '.join(_differences(disk, hints)) or 'matches'}" for disk in _sorted(disks)]
    return "\n".join([verdict + ":", *lines])


def _way_out(hints: RootDeviceHints) -> str:
    return "correct root_device of this node in the site file" if hints.given() else "give this node a root_device"


def _sorted(disks: Sequence[Disk]) -> list[Disk]:
    return sorted(disks, key=lambda disk: (disk.name, disk.serial, disk.wwn))


def _differences(disk: Disk, hints: RootDeviceHints) -> tuple[str, ...]:
    """Why `disk` does not match; empty when it does."""
    return tuple(_text_differences(disk, hints)) + tuple(_size_differences(disk, hints))


def _text_differences(disk: Disk, hints: RootDeviceHints) -> Iterator[str]:
    for field in ("serial", "model", "wwn", "name"):
        wanted, found = getattr(hints, field), getattr(disk, field).strip()
        if wanted is not None and not found:
            yield f"it reports no {field}"
        elif wanted is not None and _comparable(field, wanted) != _comparable(field, found):
            yield f"its {field} is {found}"
    if hints.rotational is not None and hints.rotational != disk.rotational:
        yield "it is rotational" if disk.rotational else "it is solid state"


def _size_differences(disk: Disk, hints: RootDeviceHints) -> Iterator[str]:
    if hints.min_size_gib is not None and disk.size_bytes < hints.min_size_gib * GIB:
        yield f"it is smaller than {hints.min_size_gib} GiB"
    if hints.max_size_gib is not None and disk.size_bytes > hints.max_size_gib * GIB:
        yield f"it is larger than {hints.max_size_gib} GiB"


def _comparable(field: str, value: str) -> str:
    text = " ".join(value.split()).lower()
    if field == "wwn":
        # sysfs writes naa.5000…, udev wwn-0x5000… or 0x5000…, vendors' labels 5000….
        return re.sub(r"^(wwn-)?(0x|naa\.|eui\.|t10\.)?", "", text)
    return text
