"""What an image is made from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from levier.domain.errors import NotFound


class KernelFlavour(StrEnum):
    """Which of the distribution's kernels the image runs."""

    CLOUD = "cloud"
    """Drivers of virtual machines only: smaller, boots faster."""
    GENERIC = "generic"
    """Drivers of real machines too."""


KERNEL_PACKAGES = {KernelFlavour.CLOUD: "linux-image-cloud-amd64", KernelFlavour.GENERIC: "linux-image-amd64"}

_PACKAGES = (
    "apt",
    "ca-certificates",
    "cloud-init",
    "dbus",
    "e2fsprogs",
    "ethtool",
    "fdisk",
    "initramfs-tools",
    "iproute2",
    "iputils-ping",
    "kmod",
    "less",
    "libnss-myhostname",
    "login",
    "netbase",
    "openssh-server",
    "passwd",
    "procps",
    "python3",
    "sudo",
    "systemd-sysv",
    "systemd-timesyncd",
    "tzdata",
    "udev",
    "zstd",
)

# From Debian 13 on systemd-repart is a package of its own.
_SUITE_PACKAGES = {"trixie": ("systemd-repart",)}


@dataclass(frozen=True, slots=True)
class ImageRecipe:
    """One operating system image: its name, the distribution's release and the kernel."""

    name: str
    suite: str
    kernel: KernelFlavour = KernelFlavour.GENERIC

    def packages(self) -> tuple[str, ...]:
        """Names of the packages asked for; what they depend on comes along."""
        return (*_PACKAGES, *_SUITE_PACKAGES.get(self.suite, ()), KERNEL_PACKAGES[self.kernel])

    def inputs(self) -> dict[str, Any]:
        """The recipe in plain types, for the digest of a build's inputs."""
        return {**asdict(self), "kernel": str(self.kernel), "packages": list(self.packages())}


_SUITES = {"debian-12": "bookworm", "debian-13": "trixie"}


def recipe_named(name: str, *, kernel: KernelFlavour = KernelFlavour.GENERIC) -> ImageRecipe:
    """The recipe of that name. Raises NotFound with the known names."""
    if name not in _SUITES:
        raise NotFound(f"there is no image recipe {name!r}", hint=f"known recipes: {', '.join(sorted(_SUITES))}")
    return ImageRecipe(name=name, suite=_SUITES[name], kernel=kernel)
