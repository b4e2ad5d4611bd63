"""`python -m levier.services.netboot_process`: DHCP and TFTP on the site's provisioning networks."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from ipaddress import IPv4Network
from pathlib import Path

import structlog

from drivers.netboot.dnsmasq import DnsmasqHosts, DnsmasqServer
from drivers.netboot.dnsmasq_config import DnsmasqConfig
from levier.domain.errors import LevierError, Unreachable
from levier.domain.netboot import DhcpHost, ProvisioningNetwork
from levier.domain.site import Network, NetworkPurpose, Site
from levier.services.boot import BootEntries
from levier.services.settings import Settings
from levier.services.sites import Sites

LOOK_S = 1.0
"""Between two looks at the newest configuration revision."""
log = structlog.get_logger()


def dnsmasq_config(settings: Settings, site: Site) -> DnsmasqConfig | None:
    """What dnsmasq is to serve for `site`; None when none of its networks boots by Levier's own DHCP. Pure."""
    networks = tuple(_served(n) for n in site.networks if site.boots_by_own_dhcp(n))
    if not networks:
        return None
    return DnsmasqConfig(state_dir=settings.netboot_dir, networks=networks, http_port=settings.boot_port)


def _served(network: Network) -> ProvisioningNetwork:
    return ProvisioningNetwork(
        interface=str(network.interface),
        server_address=str(network.server_address),
        prefix_length=IPv4Network(network.cidr).prefixlen,
        gateway=str(network.gateway) if network.gateway is not None else "",
        dns=tuple(str(each) for each in network.dns),
    )


class SiteDhcp:
    """The DHCP server of the current site, from any process; fits `levier.services.boot.DhcpPublisher`."""

    def __init__(self, settings: Settings, sites: Sites) -> None:
        self._settings = settings
        self._sites = sites

    def publish(self, read_hosts: Callable[[], Iterable[DhcpHost]]) -> None:
        """The server answers exactly these hosts. Safe to repeat. Raises Unreachable when none runs.

        Where DHCP is somebody else's on every network there is no server, and nobody to tell.
        """
        hosts = self._hosts()
        if hosts is not None:
            hosts.publish(read_hosts)
        elif not self._all_external():
            raise Unreachable(
                "no network of the site is for provisioning", hint="add one to the site file and apply it"
            )

    def lease_given(self, mac: str) -> bool | None:
        """Whether the machine with this MAC holds a lease; None when leases are somebody else's."""
        hosts = self._hosts()
        return hosts.lease_given(mac) if hosts is not None else None

    def _all_external(self) -> bool:
        current = self._sites.current_or_none()
        return current is not None and any(n.purpose is NetworkPurpose.PROVISIONING for n in current[1].networks)

    def _hosts(self) -> DnsmasqHosts | None:
        current = self._sites.current_or_none()
        config = dnsmasq_config(self._settings, current[1]) if current is not None else None
        return DnsmasqHosts(config) if config is not None else None


class NetbootProcess:
    """Keeps one dnsmasq running with the configuration of the newest revision."""

    def __init__(self, settings: Settings, sites: Sites, boot_entries: BootEntries) -> None:
        self._settings = settings
        self._sites = sites
        self._boot_entries = boot_entries
        self._server: DnsmasqServer | None = None
        self._config: DnsmasqConfig | None = None

    def run(self, stop: threading.Event) -> None:
        """dnsmasq served what the site asks for until `stop` was set; it does not run any more."""
        while not stop.is_set():
            try:
                self.step()
            except LevierError as error:
                log.error("netboot", error=str(error), hint=error.hint)
            stop.wait(LOOK_S)
        if self._server is not None:
            self._server.stop()

    def step(self) -> None:
        """dnsmasq runs with the newest revision's networks, or not at all where there are none. Safe to repeat."""
        current = self._sites.current_or_none()
        config = dnsmasq_config(self._settings, current[1]) if current is not None else None
        if config == self._config and (self._server is None or self._server.running):
            return
        if self._server is not None:
            self._server.stop()
        self._server = self._config = None
        if config is None:
            return
        server = DnsmasqServer(config)
        server.start()
        self._server, self._config = server, config
        self._boot_entries.sync_dhcp()
        log.info("netboot serves", networks=[n.interface for n in config.networks])


def main() -> int:
    """DHCP and TFTP were served until SIGTERM or SIGINT."""
    from levier import bootstrap  # the composition root imports this module

    parser = argparse.ArgumentParser(prog="python -m levier.services.netboot_process", description=__doc__)
    parser.add_argument("--state-dir", type=Path, help="instead of LEVIER_STATE_DIR")
    parser.add_argument("--ready-file", type=Path)
    arguments = parser.parse_args()
    if arguments.state_dir is not None:
        os.environ["LEVIER_STATE_DIR"] = str(arguments.state_dir)
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    services = bootstrap.services()
    process = NetbootProcess(services.settings, services.sites, services.boot_entries)
    if arguments.ready_file is not None:
        arguments.ready_file.write_text("ready\n")
    process.run(stop)
    return 0


if __name__ == "__main__":
    sys.exit(main())
