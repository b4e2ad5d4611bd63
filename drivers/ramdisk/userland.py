"""The ramdisk's few programs, taken from this machine's packages, and the agent."""

from __future__ import annotations

import re
import shutil
from importlib.resources import files
from pathlib import Path

from drivers.artifacts.command import run_tool

BUSYBOX = "/bin/busybox"
TOOLS = {"zstd": "zstd", "blkdiscard": "util-linux", "tee": "coreutils", "wc": "coreutils"}
"""Programs beyond busybox, and their packages.

busybox has no zstd, its blkdiscard cannot write zeros, its tee copies 1 KiB at a time, its wc looks at every byte.
"""
SCRIPTS = ("agent.sh", "http.sh", "inventory.sh", "lease.sh", "network.sh", "write.sh")
_DIRECTORIES = ("bin", "dev", "etc", "lib", "levier", "mnt", "proc", "run", "sys", "tmp", "usr/bin", "usr/sbin")
_LIBRARY = re.compile(r"(?:=> )?(/\S+) \(0x[0-9a-f]+\)")


def parse_libraries(ldd_output: str) -> tuple[str, ...]:
    """The files ldd(1) says a program loads, its loader included."""
    return tuple(dict.fromkeys(_LIBRARY.findall(ldd_output)))


def copy_userland(target: Path) -> None:
    """`target` is a root directory with busybox, the tools and their libraries, and the agent as ``/init``."""
    for name in _DIRECTORIES:
        (target / name).mkdir(parents=True, exist_ok=True)
    # The kernel itself asks for drivers through /sbin/modprobe (crc32c for ext4).
    (target / "sbin").symlink_to("bin")
    _copy_program(BUSYBOX, target / "bin/busybox")
    for applet in run_tool([BUSYBOX, "--list"], timeout_s=30).split():
        link = target / "bin" / applet
        if not link.exists():
            link.symlink_to("busybox")
    for tool in TOOLS:
        path = run_tool(["sh", "-c", 'command -v "$0"', tool], timeout_s=30).strip()
        _copy_program(path, target / "usr/sbin" / tool)
        for library in parse_libraries(run_tool(["ldd", path], timeout_s=30)):
            _copy_program(library, target / library.lstrip("/"))
    # The file system of the machine this is built on does not decide about rights inside.
    _write_script("init.sh", target / "init")
    for name in SCRIPTS:
        _write_script(name, target / "levier" / name)
    # Disks are found before the inventory is taken, not some time after it (Documentation/scsi/scsi-parameters.rst).
    (target / "etc/modprobe.d").mkdir()
    (target / "etc/modprobe.d/levier.conf").write_text("options scsi_mod scan=sync\n", encoding="utf-8")


def _copy_program(source: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755)


def _write_script(name: str, target: Path) -> None:
    target.write_text(files("drivers.ramdisk").joinpath(name).read_text(encoding="utf-8"), encoding="utf-8")
    target.chmod(0o755)
