"""What the baseline configuration of one host shall be. Holds no secret: it is stored in checkpoints as JSON."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from drivers.ssh.keys import parse_public_line
from levier.domain.errors import InvalidRequest

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2}")
_SYSCTL = re.compile(r"[a-z0-9_]+([./][A-Za-z0-9_.:-]+)+")


def _address(text: str) -> str:
    return str(ipaddress.ip_address(text))


def _server(text: str) -> str:
    if not re.fullmatch(_DOMAIN, text):
        ipaddress.ip_address(text)
    return text


def _zone(text: str) -> str:
    if not _ZONE.fullmatch(text):
        raise ValueError(f"{text!r} is no time zone name such as Europe/Paris")
    return text


def _public_key(line: str) -> str:
    if "\n" in line or "\r" in line:
        raise ValueError("an authorised key is one line")
    try:
        parse_public_line(line)
    except InvalidRequest as error:
        raise ValueError(error.message) from error
    return line.strip()


def _sysctl_key(key: str) -> str:
    if not _SYSCTL.fullmatch(key) or ".." in key:
        raise ValueError(f"{key!r} is no kernel setting such as net.ipv4.ip_forward")
    return key


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HostEntry(_Frozen):
    """One line of hosts(5): an address and its names, the fully qualified one first."""

    address: Annotated[str, AfterValidator(_address)]
    names: tuple[Annotated[str, Field(pattern=rf"^{_DOMAIN}$", max_length=253)], ...] = Field(min_length=1)


class SysctlSetting(_Frozen):
    """One kernel setting. An `optional` one may be refused by the kernel; any other makes applying fail."""

    key: Annotated[str, AfterValidator(_sysctl_key)]
    value: str = Field(min_length=1, pattern=r"^[^\r\n]+$")
    optional: bool = False

    @property
    def proc_path(self) -> str:
        """The setting's path below /proc/sys; dots and slashes change places as sysctl.d(5) says."""
        first = next(char for char in self.key if char in "./")
        return self.key if first == "/" else self.key.translate(str.maketrans("./", "/."))


class BaselineSpec(_Frozen):
    """A host's baseline as one configuration revision wants it.

    `hosts` are all hosts of the site. Empty `ntp_servers`, `operator_keys` or `sysctls` mean that Levier manages none.
    """

    revision: int = Field(ge=1)
    hostname: str = Field(pattern=rf"^{_LABEL}$")
    domain: str = Field(default="", pattern=rf"^({_DOMAIN})?$", max_length=180)
    hosts: tuple[HostEntry, ...] = ()
    timezone: Annotated[str, AfterValidator(_zone)] = "Etc/UTC"
    ntp_servers: tuple[Annotated[str, AfterValidator(_server)], ...] = ()
    operator_keys: tuple[Annotated[str, AfterValidator(_public_key)], ...] = ()
    sysctls: tuple[SysctlSetting, ...] = ()

    @model_validator(mode="after")
    def _no_setting_twice(self) -> BaselineSpec:
        paths = [setting.proc_path for setting in self.sysctls]
        if twice := sorted({path for path in paths if paths.count(path) > 1}):
            raise ValueError(f"kernel settings given twice: {', '.join(twice)}")
        return self

    @property
    def fqdn(self) -> str:
        """The host's full name; the short one when there is no domain."""
        return f"{self.hostname}.{self.domain}" if self.domain else self.hostname

    @property
    def digest(self) -> str:
        """SHA-256 of everything but the revision number: equal digests mean equal configurations."""
        return hashlib.sha256(self.model_dump_json(exclude={"revision"}).encode()).hexdigest()
