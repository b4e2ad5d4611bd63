"""Hosts over SSH with paramiko: verified host keys, one reused connection per host, files replaced atomically."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from drivers.ssh.host import ParamikoHost
from drivers.ssh.keys import KeyPair, fingerprint, generate_host_key
from drivers.ssh.options import SshOptions
from levier.domain.errors import InvalidRequest
from levier.domain.permit import Permit, unconditional
from levier.domain.ssh import RemoteHost, SshTarget

DEFAULT_DRIVER = "paramiko"

SSH_DRIVERS: Mapping[str, Callable[[SshTarget, SshOptions, Permit], RemoteHost]] = MappingProxyType(
    {DEFAULT_DRIVER: ParamikoHost}
)
"""Every way to reach a host over SSH, by the name that a site file uses."""


def open_host(
    target: SshTarget,
    options: SshOptions | None = None,
    *,
    driver: str = DEFAULT_DRIVER,
    permit: Permit = unconditional,
) -> RemoteHost:
    """A host that is connected to when it is first used, and asks for `permit` before each command. Close it when done.

    Raises InvalidRequest for an unknown driver, an unreadable key, or when no host key is known.
    """
    if driver not in SSH_DRIVERS:
        raise InvalidRequest(f"there is no SSH driver {driver!r}", hint=f"Choose one of: {', '.join(SSH_DRIVERS)}.")
    return SSH_DRIVERS[driver](target, options or SshOptions(), permit)


__all__ = [
    "DEFAULT_DRIVER",
    "SSH_DRIVERS",
    "KeyPair",
    "ParamikoHost",
    "SshOptions",
    "fingerprint",
    "generate_host_key",
    "open_host",
]
