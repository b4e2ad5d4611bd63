"""The deploy ramdisk: the distribution's kernel, its drivers, and an agent that speaks docs/agent-protocol.md."""

from drivers.ramdisk.builder import BuiltRamdisk, build_ramdisk, list_ramdisks, verify_ramdisk
from drivers.ramdisk.bundle import export_bundle, import_bundle
from drivers.ramdisk.modules import DriverSet

__all__ = [
    "BuiltRamdisk",
    "DriverSet",
    "build_ramdisk",
    "export_bundle",
    "import_bundle",
    "list_ramdisks",
    "verify_ramdisk",
]
