"""A small bootable disk image for `nspawn` machines: GPT, one ext4 partition named root, Debian with sshd."""

from __future__ import annotations

import subprocess
import uuid
from pathlib import Path

from tests.rig.container import base_tree

_MIB = 1 << 20
RAW_SIZE = 700 * _MIB
_ROOT_START = _MIB


def build_image(directory: Path) -> Path:
    """The zstd-compressed image of RAW_SIZE bytes."""
    raw, packed = directory / "image.raw", directory / "image.zst"
    with raw.open("wb") as file:
        file.truncate(RAW_SIZE)
    subprocess.run(
        ["sfdisk", "--quiet", str(raw)],
        input=f"label: gpt\nstart={_ROOT_START // 512}, size={(RAW_SIZE - 2 * _MIB) // 512}, name=root\n",
        text=True,
        check=True,
    )
    size_kib = (RAW_SIZE - 2 * _MIB) // 1024
    options = ["-q", "-F", "-d", str(base_tree("bookworm")), "-E", f"offset={_ROOT_START}", "-U", str(uuid.uuid4())]
    subprocess.run(["mke2fs", "-t", "ext4", *options, str(raw), f"{size_kib}k"], check=True)
    subprocess.run(["zstd", "-q", "-1", "-T0", "--rm", str(raw), "-o", str(packed)], check=True)
    return packed
