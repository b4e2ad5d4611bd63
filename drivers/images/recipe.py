"""What an image is made from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
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
    extra: tuple[str, ...] = ()
    """Packages besides those of every image: what its hosts would be given later. Nothing of them starts by itself."""

    def packages(self) -> tuple[str, ...]:
        """Names of the packages asked for; what they depend on comes along."""
        own = (*_PACKAGES, *_SUITE_PACKAGES.get(self.suite, ()), KERNEL_PACKAGES[self.kernel])
        return (*own, *(each for each in self.extra if each not in own))

    @property
    def plain(self) -> ImageRecipe:
        """The same without what was added to it."""
        return replace(self, extra=())

    def inputs(self) -> dict[str, Any]:
        """The recipe in plain types, for the digest of a build's inputs."""
        return {**asdict(self), "kernel": str(self.kernel), "packages": list(self.packages())}


_SUITES = {"debian-12": "bookworm", "debian-13": "trixie"}


def recipe_named(
    name: str, *, kernel: KernelFlavour = KernelFlavour.GENERIC, os: str | None = None, extra: Iterable[str] = ()
) -> ImageRecipe:
    """The recipe of the image `name` with the operating system `os`, by default the one of that name.

    `extra` are packages for it besides the usual. Raises NotFound with the known operating systems.
    """
    system = os or name
    if system not in _SUITES:
        raise NotFound(
            f"there is no recipe for an image {system!r}",
            hint=f"known: {', '.join(sorted(_SUITES))}; an image of another name says one of these as its `os`",
        )
    return ImageRecipe(name=name, suite=_SUITES[system], kernel=kernel, extra=tuple(sorted(set(extra))))
