"""The disk: a GPT with BIOS boot, EFI system and root partition, assembled in a plain file without loop devices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from drivers.artifacts.command import isolated, run_tool

SECTOR = 512
_MIB = 1 << 20
_BIOS_MIB = 1
_ESP_MIB = 64
"""FAT32 needs 33 MiB at least, and some firmware reads nothing else."""
_GPT_TAIL_MIB = 1
# GRUB's manual, "BIOS installation"; UEFI specification 5.3.3; Discoverable Partitions Specification (root on x86-64).
_BIOS_TYPE = "21686148-6449-6E6F-744E-656564454649"
_ESP_TYPE = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
_ROOT_TYPE = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"
_JOURNAL_MIB = 64
_FREE_MIB = 128
"""What a host has to live on until it has grown its root file system over the disk."""


@dataclass(frozen=True, slots=True)
class DiskLayout:
    """Where the partitions lie; all sizes in MiB. `root` is the last partition, so it can grow."""

    root_mib: int

    @property
    def bios_start_mib(self) -> int:
        """First MiB of the BIOS boot partition."""
        return 1

    @property
    def esp_start_mib(self) -> int:
        """First MiB of the EFI system partition."""
        return self.bios_start_mib + _BIOS_MIB

    @property
    def root_start_mib(self) -> int:
        """First MiB of the root partition."""
        return self.esp_start_mib + _ESP_MIB

    @property
    def raw_bytes(self) -> int:
        """Size of the whole disk image."""
        return (self.root_start_mib + self.root_mib + _GPT_TAIL_MIB) * _MIB

    @property
    def esp_offset_bytes(self) -> int:
        """Where the EFI system partition begins."""
        return self.esp_start_mib * _MIB

    @property
    def root_offset_bytes(self) -> int:
        """Where the root partition begins."""
        return self.root_start_mib * _MIB

    @property
    def bios_start_sector(self) -> int:
        """First sector of the BIOS boot partition."""
        return self.bios_start_mib * _MIB // SECTOR

    def sfdisk_script(self) -> str:
        """The partition table as sfdisk(8) reads it."""
        partitions = (
            (self.bios_start_mib, _BIOS_MIB, "bios", _BIOS_TYPE),
            (self.esp_start_mib, _ESP_MIB, "esp", _ESP_TYPE),
            (self.root_start_mib, self.root_mib, "root", _ROOT_TYPE),
        )
        lines = (
            f'start={start}MiB, size={size}MiB, name="{name}", type={kind}' for start, size, name, kind in partitions
        )
        return "\n".join(("label: gpt", *lines)) + "\n"


def layout_for(content_bytes: int) -> DiskLayout:
    """The layout whose root partition holds `content_bytes` of files, with room for metadata, journal and first use."""
    content_mib = -(-content_bytes // _MIB)
    return DiskLayout(root_mib=content_mib + content_mib // 12 + _JOURNAL_MIB + _FREE_MIB)


def measure_content(root: Path) -> int:
    """Bytes the files below `root` take up on a file system with 4 KiB blocks."""
    return int(run_tool(["du", "--summarize", "--block-size=1", str(root)], timeout_s=300).split()[0])


def make_disk(raw: Path, layout: DiskLayout) -> None:
    """`raw` is an empty sparse disk of the layout's size with its partition table."""
    with raw.open("wb") as stream:
        stream.truncate(layout.raw_bytes)
    run_tool(["sfdisk", "--quiet", str(raw)], stdin=layout.sfdisk_script().encode(), timeout_s=60)


def make_root(raw: Path, layout: DiskLayout, *, content: Path, root_uuid: str) -> None:
    """The root partition of `raw` is an ext4 file system named ``root`` that holds `content`."""
    # 4 KiB blocks also below 512 MiB; features newer than GRUB 2.06 can read stay off; room to grow online to 16 TiB.
    form = "-q -F -t ext4 -L root -b 4096 -i 16384 -I 256 -m 1 -O ^metadata_csum_seed,^orphan_file"
    extended = f"offset={layout.root_offset_bytes},lazy_itable_init=1,resize=4294967295"
    command = ["mke2fs", *form.split(), "-U", root_uuid, "-J", f"size={_JOURNAL_MIB}", "-E", extended]
    run_tool(isolated([*command, "-d", str(content), str(raw), f"{layout.root_mib}M"]), timeout_s=600)


def make_esp(raw: Path, layout: DiskLayout, *, loader: Path, work: Path) -> None:
    """The EFI system partition of `raw` is FAT32 with `loader` where removable media have theirs.

    Source of the path: UEFI specification 3.5.1.1.
    """
    esp = work / "esp.vfat"
    with esp.open("wb") as stream:
        stream.truncate(_ESP_MIB * _MIB)
    hidden_sectors = layout.esp_offset_bytes // SECTOR
    run_tool(["mkfs.vfat", "-F", "32", "-s", "1", "-n", "ESP", "-h", str(hidden_sectors), str(esp)], timeout_s=60)
    run_tool(["mmd", "-i", str(esp), "::/EFI", "::/EFI/BOOT"], timeout_s=60)
    run_tool(["mcopy", "-i", str(esp), str(loader), "::/EFI/BOOT/BOOTX64.EFI"], timeout_s=60)
    run_tool(
        ["dd", f"if={esp}", f"of={raw}", "bs=1M", f"seek={layout.esp_start_mib}", "conv=notrunc,sparse", "status=none"],
        timeout_s=60,
    )
