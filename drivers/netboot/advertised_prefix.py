"""The IPv6 prefix that dnsmasq advertises, and this machine's address in it.

iPXE configures IPv6 beside DHCP and waits about 13 s for a router advertisement before it goes on. dnsmasq advertises
only prefixes in which the interface has an address; so the interface gets a unique local one (RFC 4193) while dnsmasq
runs. It is deprecated from the start (preferred lifetime 0): it is nobody's choice of a source.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import subprocess
from dataclasses import dataclass

_log = logging.getLogger("levier.netboot")


@dataclass(frozen=True, slots=True)
class AdvertisedPrefix:
    """A prefix on an interface, in a network namespace (empty: this process's)."""

    interface: str
    base: ipaddress.IPv6Address
    netns: str

    @property
    def _address(self) -> str:
        return f"{self.base + 1}/64"

    def bring_up(self) -> None:
        """The interface has its address in the prefix. Safe to repeat.

        Where IPv6 is switched off this is logged and nothing more: machines boot all the same, 13 s later.
        """
        error = self._ip("replace", self._address, "dev", self.interface, "nodad", "preferred_lft", "0")
        if error:
            _log.warning("no router advertisement on %s, iPXE boots 13 s slower: %s", self.interface, error)

    def take_down(self) -> None:
        """The interface has no address in the prefix, nor one it gave itself by its own advertisement. Repeatable."""
        self._ip("flush", "dev", self.interface, "to", f"{self.base}/64")

    def _ip(self, *arguments: str) -> str:
        """What `ip address` said to be wrong; empty on success."""
        where = ["-n", self.netns] if self.netns else []
        command = ["ip", *where, "-6", "address", *arguments]
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        return "" if result.returncode == 0 else result.stderr.strip() or f"ip ended with {result.returncode}"


def prefix_of(interface: str, server_address: str, *, netns: str) -> AdvertisedPrefix:
    """The prefix for a provisioning network: the same at every start, hardly ever the same as another network's."""
    digest = hashlib.sha256(f"{interface} {server_address}".encode()).digest()
    # RFC 4193 section 3.1: fd, a 40-bit global ID, a 16-bit subnet ID (here 0).
    base = ipaddress.IPv6Address(b"\xfd" + digest[:5] + bytes(10))
    return AdvertisedPrefix(interface=interface, base=base, netns=netns)
