"""Which of the kernel's modules go into the ramdisk."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

from drivers.artifacts.command import run_tool
from levier.domain.errors import MalformedReply

_EVERYWHERE = ("kernel/fs/ext4/", "kernel/crypto/crc32c_generic", "kernel/arch/x86/crypto/crc32c-intel")
_ALL = (
    *_EVERYWHERE,
    "kernel/drivers/ata/",
    "kernel/drivers/block/",
    "kernel/drivers/char/hw_random/",
    "kernel/drivers/hv/",
    "kernel/drivers/message/fusion/",
    "kernel/drivers/net/ethernet/",
    "kernel/drivers/net/hyperv/",
    "kernel/drivers/net/mdio",
    "kernel/drivers/net/pcs/",
    "kernel/drivers/net/phy/",
    "kernel/drivers/net/virtio_net",
    "kernel/drivers/net/vmxnet3/",
    "kernel/drivers/net/xen-netfront",
    "kernel/drivers/nvme/host/",
    "kernel/drivers/pci/",
    "kernel/drivers/scsi/",
    "kernel/drivers/virtio/",
)
_VIRTUAL = (
    *_EVERYWHERE,
    "kernel/drivers/ata/ahci.",
    "kernel/drivers/block/virtio_blk",
    "kernel/drivers/block/xen-blkfront",
    "kernel/drivers/char/hw_random/virtio-rng",
    "kernel/drivers/hv/",
    "kernel/drivers/net/ethernet/intel/e1000",
    "kernel/drivers/net/hyperv/",
    "kernel/drivers/net/virtio_net",
    "kernel/drivers/net/vmxnet3/",
    "kernel/drivers/net/xen-netfront",
    "kernel/drivers/nvme/host/nvme.",
    "kernel/drivers/scsi/hv_storvsc",
    "kernel/drivers/scsi/sd_mod",
    "kernel/drivers/scsi/virtio_scsi",
    "kernel/drivers/scsi/vmw_pvscsi",
    "kernel/drivers/virtio/",
)


class DriverSet(StrEnum):
    """How many drivers the ramdisk brings."""

    ALL = "all"
    """Every Ethernet and storage driver of the kernel: real machines."""
    VIRTUAL = "virtual"
    """What hypervisors offer: smaller, for a rack of virtual machines."""


def parse_dependencies(modules_dep: str) -> dict[str, tuple[str, ...]]:
    """Module → modules it needs, as modules.dep(5) lists them. Raises MalformedReply on a line of another form."""
    table: dict[str, tuple[str, ...]] = {}
    for line in filter(None, modules_dep.splitlines()):
        module, colon, needed = line.partition(":")
        if not colon:
            raise MalformedReply(f"modules.dep has a line without a colon: {line[:60]!r}")
        table[module] = tuple(needed.split())
    return table


def select_modules(dependencies: dict[str, tuple[str, ...]], prefixes: Iterable[str]) -> tuple[str, ...]:
    """Every module whose path begins with one of `prefixes`, and all it needs; sorted."""
    wanted = tuple(prefixes)
    chosen: set[str] = set()
    for module, needed in dependencies.items():
        if module.startswith(wanted):
            chosen.update((module, *needed))
    return tuple(sorted(chosen))


def prefixes_of(drivers: DriverSet) -> tuple[str, ...]:
    """Path prefixes, relative to the module directory, that the set covers."""
    return _ALL if drivers is DriverSet.ALL else _VIRTUAL


def copy_modules(kernel_root: Path, target_root: Path, *, version: str, prefixes: Iterable[str]) -> int:
    """`target_root` has the modules of the kernel in `kernel_root` that `prefixes` cover; their number is returned.

    They are uncompressed, with the indexes modprobe needs.
    """
    source = kernel_root / "lib/modules" / version
    target = target_root / "lib/modules" / version
    run_tool(["depmod", "--basedir", str(kernel_root), version], timeout_s=120)
    table = parse_dependencies((source / "modules.dep").read_text(encoding="utf-8"))
    chosen = select_modules(table, prefixes)
    for module in chosen:
        (target / module).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / module, target / module)
    for index in ("modules.order", "modules.builtin"):
        shutil.copyfile(source / index, target / index)
    # One compression over all modules together beats one for each, and busybox loads plain modules only.
    packed = [str(path) for path in target.rglob("*.ko.xz")]
    if packed:
        run_tool(["xz", "--decompress", "--threads=0", *packed], timeout_s=300)
    run_tool(["depmod", "--basedir", str(target_root), version], timeout_s=120)
    _drop_indexes(target)
    return len(chosen)


def _drop_indexes(target: Path) -> None:
    """Only what busybox's modprobe reads stays."""
    for path in target.glob("modules.*"):
        if path.name not in ("modules.dep", "modules.alias", "modules.softdep"):
            path.unlink()
