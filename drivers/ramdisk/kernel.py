"""The distribution's kernel for the ramdisk: found and fetched with this machine's own apt, not installed."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from drivers.artifacts.command import run_tool
from drivers.images.recipe import KERNEL_PACKAGES, KernelFlavour
from levier.domain.errors import InvalidRequest, MalformedReply, Rejected, Unreachable

_DEPENDENCY = re.compile(r"\b(linux-image-\d\S*) \(= ([^)]+)\)")


@dataclass(frozen=True, slots=True)
class KernelPackage:
    """The package that holds a kernel and its modules."""

    name: str
    version: str

    @property
    def release(self) -> str:
        """What ``uname -r`` says under this kernel; Debian names the package after it (signed kernels)."""
        return self.name.removeprefix("linux-image-")


def parse_kernel_package(record: str) -> KernelPackage:
    """The kernel a meta package's record (``apt-cache show``) depends on. Raises MalformedReply when it names none."""
    depends = next((line for line in record.splitlines() if line.startswith("Depends:")), "")
    match = _DEPENDENCY.search(depends)
    if match is None:
        raise MalformedReply(f"no kernel package in {depends[:80]!r}")
    return KernelPackage(name=match[1], version=match[2])


def find_kernel(flavour: KernelFlavour) -> KernelPackage:
    """The kernel apt on this machine offers now. Works without a network. Raises InvalidRequest when apt knows none."""
    try:
        record = run_tool(["apt-cache", "show", "--no-all-versions", KERNEL_PACKAGES[flavour]], timeout_s=60)
    except Rejected as error:
        raise InvalidRequest(
            f"apt on this machine knows no package {KERNEL_PACKAGES[flavour]}", hint="apt-get update"
        ) from error
    return parse_kernel_package(record)


def unpack_kernel(package: KernelPackage, *, work: Path) -> Path:
    """A directory below `work` holds the package's files. Raises Unreachable when the package cannot be fetched."""
    target = work / "kernel"
    target.mkdir()
    try:
        run_tool(
            ["apt-get", "download", "--option=APT::Sandbox::User=root", f"{package.name}={package.version}"],
            cwd=work,
            timeout_s=900,
        )
    except Rejected as error:
        raise Unreachable(f"the kernel package cannot be fetched: {error.message}", hint="apt-get update") from error
    (deb,) = work.glob(f"{package.name}_*.deb")
    run_tool(["dpkg-deb", "--extract", str(deb), str(target)], timeout_s=300)
    deb.unlink()
    return target


def copy_kernel(kernel_root: Path, package: KernelPackage, *, target: Path) -> None:
    """`target` is the bootable kernel file."""
    shutil.copyfile(kernel_root / f"boot/vmlinuz-{package.release}", target)
