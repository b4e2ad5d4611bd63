"""Partition table and boot code."""

from __future__ import annotations

import json
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.images.bootloader import boot_code, located_core
from drivers.images.layout import DiskLayout, layout_for, make_disk

MIB = 1 << 20


@given(content_bytes=st.integers(0, 1 << 40))
def test_content_always_fits_and_nothing_overlaps(content_bytes: int) -> None:
    layout = layout_for(content_bytes)
    assert layout.root_mib * MIB >= content_bytes * 13 // 12 + 128 * MIB
    assert 1 == layout.bios_start_mib < layout.esp_start_mib < layout.root_start_mib
    # One MiB behind the last partition for the backup table (33 sectors; UEFI specification 5.3.2).
    assert layout.raw_bytes == layout.root_offset_bytes + layout.root_mib * MIB + MIB


def test_the_table_sfdisk_makes_of_it(tmp_path: Path) -> None:
    layout = DiskLayout(root_mib=300)
    make_disk(tmp_path / "disk", layout)
    table = json.loads(subprocess.check_output(["sfdisk", "--json", tmp_path / "disk"]))["partitiontable"]
    assert table["label"] == "gpt"
    assert [part["name"] for part in table["partitions"]] == ["bios", "esp", "root"]
    assert [part["start"] for part in table["partitions"]] == [2048, 4096, layout.root_offset_bytes // 512]
    assert table["partitions"][-1]["size"] == 300 * MIB // 512
    assert (
        subprocess.run(["sgdisk", "--verify", tmp_path / "disk"], stdout=subprocess.PIPE).stdout.count(
            b"No problems found"
        )
        == 1
    )


def test_boot_code_points_at_the_core_and_the_core_at_its_rest() -> None:
    code = boot_code(bytes(range(256)) * 2, 0x1122334455)
    assert len(code) == 440
    assert struct.unpack_from("<Q", code, 0x5C)[0] == 0x1122334455
    assert code[0x66:0x68] == b"\x90\x90"
    core = located_core(bytes(2048), 4096)
    assert struct.unpack_from("<Q", core, 500)[0] == 4097
    assert len(core) == 2048


@pytest.mark.parametrize("start", [2048, 1 << 33])
def test_only_the_stated_bytes_of_the_boot_code_change(start: int) -> None:
    original = bytes(440)
    changed = [index for index, (a, b) in enumerate(zip(original, boot_code(original, start), strict=True)) if a != b]
    assert set(changed) <= {*range(0x5C, 0x64), 0x66, 0x67}
