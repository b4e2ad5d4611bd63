"""GRUB for BIOS and UEFI, installed into a disk image without touching a block device."""

from __future__ import annotations

import struct
from pathlib import Path

from drivers.artifacts.command import run_tool
from drivers.images.layout import SECTOR, DiskLayout
from levier.domain.errors import Rejected

BIOS_DIRECTORY = "/usr/lib/grub/i386-pc"
EFI_DIRECTORY = "/usr/lib/grub/x86_64-efi"
_PREFIX = "(,gpt3)/boot/grub"
"""The third partition of whatever disk the firmware started GRUB from."""

_COMMON_MODULES = (
    "part_gpt",
    "ext2",
    "normal",
    "linux",
    "search",
    "search_fs_uuid",
    "configfile",
    "echo",
    "test",
    "all_video",
)
_BIOS_MODULES = ("biosdisk", *_COMMON_MODULES)
_EFI_MODULES = ("efi_gop", "efi_uga", *_COMMON_MODULES)

# Offsets in boot.img and diskboot.img: GRUB's include/grub/i386/pc/boot.h.
_BOOT_CODE_BYTES = 440
_KERNEL_SECTOR_OFFSET = 0x5C
_DRIVE_CHECK_OFFSET = 0x66
_BLOCKLIST_OFFSET = SECTOR - 12


def efi_loader(work: Path) -> Path:
    """A UEFI application that reads its configuration from the root partition of its own disk."""
    target = work / "BOOTX64.EFI"
    _make_image("x86_64-efi", target, _EFI_MODULES)
    return target


def install_bios(raw: Path, layout: DiskLayout, *, work: Path) -> None:
    """A BIOS boots GRUB from the disk `raw`: boot code in its first sector, the core in the BIOS boot partition."""
    core_path = work / "core.img"
    _make_image("i386-pc", core_path, _BIOS_MODULES)
    core = core_path.read_bytes()
    room = layout.esp_offset_bytes - layout.bios_start_sector * SECTOR
    if len(core) > room:
        raise Rejected(f"GRUB's core image has {len(core)} bytes, the BIOS boot partition holds {room}")
    code = boot_code(Path(BIOS_DIRECTORY, "boot.img").read_bytes(), layout.bios_start_sector)
    with raw.open("r+b") as disk:
        disk.write(code)
        disk.seek(layout.bios_start_sector * SECTOR)
        disk.write(located_core(core, layout.bios_start_sector))


def boot_code(boot_image: bytes, core_sector: int) -> bytes:
    """GRUB's first-stage boot code that continues at `core_sector` of the drive the BIOS names."""
    code = bytearray(boot_image[:_BOOT_CODE_BYTES])
    struct.pack_into("<Q", code, _KERNEL_SECTOR_OFFSET, core_sector)
    # Believe the BIOS about the boot drive: two NOPs in place of the jump (as grub-bios-setup does on hard disks).
    code[_DRIVE_CHECK_OFFSET : _DRIVE_CHECK_OFFSET + 2] = b"\x90\x90"
    return bytes(code)


def located_core(core: bytes, core_sector: int) -> bytes:
    """GRUB's core image whose first sector knows that the rest follows it on the disk."""
    image = bytearray(core)
    struct.pack_into("<Q", image, _BLOCKLIST_OFFSET, core_sector + 1)
    return bytes(image)


def _make_image(target_format: str, target: Path, modules: tuple[str, ...]) -> None:
    run_tool(
        ["grub-mkimage", "-O", target_format, "-o", str(target), "-p", _PREFIX, *modules],
        timeout_s=60,
    )
