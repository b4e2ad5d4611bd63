"""What dnsmasq is told: its configuration file, rendered and checked, and the files it works with."""

from __future__ import annotations

import ipaddress
import os
import pwd
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from drivers.netboot.advertised_prefix import AdvertisedPrefix, prefix_of
from levier.domain.errors import InvalidRequest, Unsupported
from levier.domain.netboot import DhcpHost, ProvisioningNetwork

TFTP_PORTS = (45000, 45999)
"""Server side of TFTP transfers, so that a firewall rule can name them."""

_PLAIN_PATH = re.compile(r"/[A-Za-z0-9._/@+=:-]*")
_INTERFACE = re.compile(r"[A-Za-z0-9._-]{1,15}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class DnsmasqFiles:
    """Where everything lies, all below one directory."""

    config: Path
    hosts: Path
    leases: Path
    pid: Path
    log: Path
    lock: Path
    tftp: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsmasqConfig:
    """DHCP and TFTP on some networks, for machines that then go to the boot service on `http_port`.

    `state_dir` is dnsmasq's own and holds no secret; all directories above it must be searchable by `user`, to whom
    dnsmasq drops its privileges. `netns` names the network namespace to run in; empty: this process's.
    """

    state_dir: Path
    networks: tuple[ProvisioningNetwork, ...]
    http_port: int
    lease_s: int = 600
    user: str = "dnsmasq"
    netns: str = ""
    router_advertisement: bool = True
    bios_loader: str = "undionly.kpxe"
    efi_loader: str = "snponly.efi"
    loader_dir: Path = Path("/usr/lib/ipxe")

    @property
    def files(self) -> DnsmasqFiles:
        """The files below `state_dir`."""
        at = self.state_dir
        return DnsmasqFiles(
            config=at / "dnsmasq.conf",
            hosts=at / "hosts",
            leases=at / "leases",
            pid=at / "dnsmasq.pid",
            log=at / "dnsmasq.log",
            lock=at / "lock",
            tftp=at / "tftp",
        )

    @property
    def prefixes(self) -> tuple[AdvertisedPrefix, ...]:
        """What is advertised, one prefix per interface; empty when router advertisement is off."""
        if not self.router_advertisement:
            return ()
        first = {n.interface: n.server_address for n in reversed(self.networks)}
        return tuple(prefix_of(name, first[name], netns=self.netns) for name in sorted(first))

    def interface_of(self, address: str) -> str:
        """The interface whose network holds `address`; empty when there is none."""
        wanted = ipaddress.ip_address(address)
        return next((n.interface for n in self.networks if wanted in _span(n)), "")


def render_config(config: DnsmasqConfig) -> str:
    """The text of dnsmasq's configuration file. Raises InvalidRequest for what dnsmasq could not serve. Pure."""
    _check(config)
    environment = Environment(  # noqa: S701 - a configuration file, not HTML
        loader=PackageLoader("drivers.netboot", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    networks = [_network_values(n, number, config.http_port) for number, n in enumerate(config.networks)]
    return environment.get_template("dnsmasq.conf.j2").render(
        files=config.files,
        user=config.user,
        interfaces=sorted({n.interface for n in config.networks}),
        networks=networks,
        lease_s=config.lease_s,
        bios_loader=config.bios_loader,
        efi_loader=config.efi_loader,
        tftp_ports=TFTP_PORTS,
        prefixes=config.prefixes,
    )


def render_hosts(hosts: Iterable[DhcpHost]) -> str:
    """The text of the hosts file: MAC, address, first label of the host name. Raises InvalidRequest. Pure."""
    lines = []
    for host in sorted(hosts, key=lambda h: h.mac):
        label = host.hostname.partition(".")[0]
        if not _MAC.fullmatch(host.mac) or not _LABEL.fullmatch(label):
            raise InvalidRequest(f"DHCP host {host.hostname!r} with MAC {host.mac!r} is malformed")
        lines.append(f"{host.mac},{_address(host.address)},{label}\n")
    return "".join(lines)


def write_config(config: DnsmasqConfig) -> None:
    """All files dnsmasq needs are in place, and dnsmasq accepts its configuration. Hosts and leases are kept.

    Safe to repeat. Raises InvalidRequest when dnsmasq refuses the configuration or could not read it, Unsupported when
    a program or a boot loader is not installed.
    """
    text = render_config(config)
    for program, package in (("dnsmasq", "dnsmasq-base"), ("dhcp_release", "dnsmasq-utils")):
        if shutil.which(program) is None:
            raise Unsupported(f"{program} is not installed", hint=f"apt-get install {package}")
    files = config.files
    files.tftp.mkdir(parents=True, exist_ok=True)
    for directory in (config.state_dir, files.tftp):
        directory.chmod(0o755)
    _check_reachable(config)
    for name in (config.bios_loader, config.efi_loader):
        _install_loader(config.loader_dir / name, files.tftp / name)
    if not files.hosts.exists():
        replace_file(files.hosts, b"")
    replace_file(files.config, text.encode())
    _test(files.config)


def replace_file(path: Path, content: bytes) -> None:
    """`path` holds `content`, readable by all; a reader sees the old file or the new one, whole."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _install_loader(source: Path, target: Path) -> None:
    if not source.is_file():
        raise Unsupported(f"the boot loader {source} is not installed", hint="apt-get install ipxe")
    content = source.read_bytes()
    if not target.is_file() or target.read_bytes() != content:
        replace_file(target, content)


def _test(path: Path) -> None:
    result = subprocess.run(
        ["dnsmasq", "--test", f"--conf-file={path}"], capture_output=True, text=True, timeout=30, check=False
    )
    if result.returncode != 0:
        raise InvalidRequest(f"dnsmasq refuses its configuration: {result.stderr.strip()}", hint=f"see {path}")


def _span(network: ProvisioningNetwork) -> ipaddress.IPv4Network:
    return ipaddress.IPv4Network(f"{network.server_address}/{network.prefix_length}", strict=False)


def _network_values(network: ProvisioningNetwork, number: int, http_port: int) -> dict[str, object]:
    span = _span(network)
    return {
        "tag": f"net{number}",
        "base": str(span.network_address),
        "netmask": str(span.netmask),
        "gateway": network.gateway,
        "dns": network.dns,
        "chain_url": f"http://{network.server_address}:{http_port}/boot.ipxe",
    }


def _address(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError as error:
        raise InvalidRequest(f"{text!r} is not an IPv4 address") from error


def _check(config: DnsmasqConfig) -> None:
    if not config.networks:
        raise InvalidRequest("there is no provisioning network to serve")
    if not _PLAIN_PATH.fullmatch(str(config.state_dir)):
        raise InvalidRequest(
            f"dnsmasq cannot be given the path {str(config.state_dir)!r}",
            hint="choose an absolute state directory without spaces, quotes and commas",
        )
    spans: list[ipaddress.IPv4Network] = []
    for network in config.networks:
        if not _INTERFACE.fullmatch(network.interface):
            raise InvalidRequest(f"{network.interface!r} is not the name of an interface")
        for address in (network.server_address, *filter(None, (network.gateway,)), *network.dns):
            _address(address)
        if not 8 <= network.prefix_length <= 30:
            raise InvalidRequest(f"a provisioning network of prefix length {network.prefix_length} has no use")
        span = _span(network)
        if any(span.overlaps(other) for other in spans):
            raise InvalidRequest(f"provisioning network {span} overlaps another one")
        spans.append(span)


def _check_reachable(config: DnsmasqConfig) -> None:
    """dnsmasq re-reads the hosts and serves TFTP after it gave up root: its user must get there."""
    try:
        user = pwd.getpwnam(config.user)
    except KeyError:
        raise Unsupported(
            f"there is no user {config.user} for dnsmasq to run as", hint="apt-get install dnsmasq-base"
        ) from None
    if user.pw_uid == 0:
        return
    for directory in (config.state_dir, *config.state_dir.parents):
        if not directory.stat().st_mode & 0o001:
            raise InvalidRequest(
                f"dnsmasq's user {config.user} cannot reach {config.state_dir}: {directory} is closed to it",
                hint=f"chmod o+x {directory}, or choose another state directory",
            )
