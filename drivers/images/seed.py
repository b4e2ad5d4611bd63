"""The NoCloud seed a host finds on its disk at its first boot: name, network, SSH host key, authorised keys."""

from __future__ import annotations

import io
import ipaddress
import json
import re
import tarfile
from dataclasses import dataclass, field
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from levier.domain.errors import InvalidRequest

SEED_DIRECTORY = "var/lib/cloud/seed/nocloud"
_DIRECTORIES = ("var/lib/cloud/seed", SEED_DIRECTORY)
_ENVIRONMENT = Environment(
    undefined=StrictUndefined,
    keep_trailing_newline=True,
    trim_blocks=True,
    lstrip_blocks=True,
    autoescape=False,  # noqa: S701
)
# JSON strings are YAML strings (YAML 1.2, section 1.3): quoting that no content can break out of.
_ENVIRONMENT.filters["quoted"] = lambda value: json.dumps(str(value), ensure_ascii=False)

_HOSTNAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_USERNAME = re.compile(r"[a-z_][a-z0-9_-]{0,30}")


@dataclass(frozen=True, slots=True)
class SeedSpec:
    """What one host is to be at its first boot.

    `instance_id` is unique per deployment: cloud-init applies a seed once per instance. `host_private_key` is OpenSSH
    PEM text, and never shown by repr; the public keys are OpenSSH lines.
    """

    instance_id: str
    hostname: str
    mac: str
    address: str
    prefix_length: int
    host_private_key: str = field(repr=False)
    host_public_key: str
    authorized_keys: tuple[str, ...]
    gateway: str = ""
    dns: tuple[str, ...] = ()
    username: str = "root"

    def __post_init__(self) -> None:
        """Refuses what could not work, or what could say more than one thing. Raises InvalidRequest."""
        _require(bool(self.instance_id.strip()), "a seed needs an instance id")
        _require(_HOSTNAME.fullmatch(self.hostname) is not None, f"{self.hostname!r} is no host name (RFC 1123)")
        _require(_MAC.fullmatch(self.mac) is not None, f"{self.mac!r} is no MAC address in lower case with colons")
        _require(_USERNAME.fullmatch(self.username) is not None, f"{self.username!r} is no user name")
        _require(bool(self.authorized_keys), "a seed without an authorised key makes a host nobody can enter")
        network = _network(self.address, self.prefix_length)
        if self.gateway:
            _require(_address(self.gateway) in network, f"gateway {self.gateway} is outside {network}")
        for server in self.dns:
            _address(server)
        for key in (self.host_public_key, *self.authorized_keys):
            _require(len(key.split()) >= 2 and "\n" not in key.strip(), f"no OpenSSH public key: {key[:40]!r}")

    @property
    def host_key_type(self) -> str:
        """cloud-init's word for the host key's algorithm: ``ed25519``, ``rsa`` or ``ecdsa``."""
        algorithm = self.host_public_key.split()[0]
        for prefix, word in (("ssh-ed25519", "ed25519"), ("ssh-rsa", "rsa"), ("ecdsa-", "ecdsa")):
            if algorithm.startswith(prefix):
                return word
        raise InvalidRequest(f"host keys of type {algorithm} cannot be seeded", hint="use ssh-ed25519")


def render_user_data(spec: SeedSpec) -> str:
    """cloud-init's user-data: the login, its keys and the host key."""
    return _render("seed_user_data.j2", spec)


def render_meta_data(spec: SeedSpec) -> str:
    """cloud-init's meta-data: instance id and host name."""
    return _render("seed_meta_data.j2", spec)


def render_network_config(spec: SeedSpec) -> str:
    """cloud-init's network configuration, version 2: the interface with this MAC has this static address."""
    return _render("seed_network_config.j2", spec)


def render_seed(spec: SeedSpec) -> bytes:
    """An uncompressed tar, paths relative to the root file system, with the three files cloud-init reads.

    The same spec gives the same bytes. It holds the host's private key: treat it as a secret.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in _DIRECTORIES:
            archive.addfile(_member(name, tarfile.DIRTYPE, 0o700 if name == SEED_DIRECTORY else 0o755))
        for name, text in (
            ("meta-data", render_meta_data(spec)),
            ("user-data", render_user_data(spec)),
            ("network-config", render_network_config(spec)),
        ):
            content = text.encode()
            member = _member(f"{SEED_DIRECTORY}/{name}", tarfile.REGTYPE, 0o600)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _render(template: str, spec: SeedSpec) -> str:
    source = files("drivers.images").joinpath(template).read_text(encoding="utf-8")
    return _ENVIRONMENT.from_string(source).render(seed=spec)


def _member(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    member.mode = mode
    member.uname = member.gname = "root"
    return member


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InvalidRequest(message)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError as error:
        raise InvalidRequest(f"{text!r} is no IP address") from error


def _network(address: str, prefix_length: int) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(f"{address}/{prefix_length}", strict=False)
    except ValueError as error:
        raise InvalidRequest(f"{address}/{prefix_length} is no address with a prefix length") from error
