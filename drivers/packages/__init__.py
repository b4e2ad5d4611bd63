"""Packages of a host's distribution over SSH: one implementation for each package manager."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from drivers.packages.apt import AptPackages
from drivers.packages.apt_shell import AptLimits
from levier.domain.errors import Unsupported
from levier.domain.packages import PackageManager
from levier.domain.ssh import RemoteHost

PACKAGE_MANAGERS: Mapping[str, Callable[[RemoteHost, str], PackageManager]] = MappingProxyType(
    {"debian": lambda host, name: AptPackages(host, name=name)}
)
"""Every way to handle packages, by `ID` of os-release(5)."""


def open_packages(host: RemoteHost, *, name: str, os_id: str) -> PackageManager:
    """The packages of the host that errors call `name` and whose facts say `os_id`. Touches nothing.

    Raises Unsupported for a distribution whose packages Levier cannot handle.
    """
    if os_id not in PACKAGE_MANAGERS:
        raise Unsupported(
            f"{name}: packages of {os_id or 'an unknown system'} cannot be handled",
            hint=f"Take an image of one of: {', '.join(PACKAGE_MANAGERS)}.",
        )
    return PACKAGE_MANAGERS[os_id](host, name)


__all__ = ["PACKAGE_MANAGERS", "AptLimits", "AptPackages", "open_packages"]
