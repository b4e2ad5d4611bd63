"""The files of a baseline, made from its specification alone: pure, the same input gives the same bytes."""

from __future__ import annotations

import ipaddress
import json
from enum import StrEnum

from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel, ConfigDict

from drivers.baseline.spec import BaselineSpec, HostEntry

HOSTNAME = "/etc/hostname"
HOSTS = "/etc/hosts"
LOCALTIME = "/etc/localtime"
TIMEZONE = "/etc/timezone"
TIMESYNCD = "/etc/systemd/timesyncd.conf.d/levier.conf"
AUTHORIZED_KEYS = "/root/.ssh/authorized_keys2"
"""sshd's second default file (sshd_config(5), AuthorizedKeysFile): Levier's own key in the first is never touched."""
SYSCTL = "/etc/sysctl.d/90-levier.conf"
REVISION = "/etc/levier/revision"
ZONEINFO = "/usr/share/zoneinfo"

_TEMPLATES = Environment(
    loader=PackageLoader("drivers.baseline", package_path="."),
    undefined=StrictUndefined,
    autoescape=False,  # noqa: S701 - configuration files, not HTML; the specification refuses line breaks
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


class FileKind(StrEnum):
    """What is at a path."""

    FILE = "file"
    LINK = "link"
    """A symbolic link; its content is the target."""
    ABSENT = "absent"


class RenderedFile(BaseModel):
    """One path as it shall be; `content` is text, or the target of a link, and empty for an absent file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    content: str = ""
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"
    kind: FileKind = FileKind.FILE


def render_baseline(spec: BaselineSpec) -> tuple[RenderedFile, ...]:
    """Every managed path in the order of writing; the revision marker is last, never ahead of the rest."""
    return (
        _file(HOSTNAME, "hostname.j2", spec),
        _file(HOSTS, "hosts.j2", spec),
        RenderedFile(path=LOCALTIME, kind=FileKind.LINK, content=f"{ZONEINFO}/{spec.timezone}", mode=0o777),
        _file(TIMEZONE, "timezone.j2", spec),
        _file(TIMESYNCD, "timesyncd.conf.j2", spec, wanted=bool(spec.ntp_servers)),
        _file(AUTHORIZED_KEYS, "authorized_keys2.j2", spec, wanted=bool(spec.operator_keys), mode=0o600),
        _file(SYSCTL, "sysctl.conf.j2", spec, wanted=bool(spec.sysctls)),
        RenderedFile(path=REVISION, content=revision_text(spec)),
    )


def revision_text(spec: BaselineSpec) -> str:
    """The marker that a host carries: which revision was applied completely, and the digest of its configuration."""
    return json.dumps({"revision": spec.revision, "spec_sha256": spec.digest}, sort_keys=True) + "\n"


def _file(path: str, template: str, spec: BaselineSpec, *, wanted: bool = True, mode: int = 0o644) -> RenderedFile:
    if not wanted:
        return RenderedFile(path=path, kind=FileKind.ABSENT, mode=0)
    listed = any(spec.hostname in entry.names or spec.fqdn in entry.names for entry in spec.hosts)
    hosts = sorted(spec.hosts, key=_by_address)
    content = _TEMPLATES.get_template(template).render(spec=spec, hosts=hosts, own_name_listed=listed)
    return RenderedFile(path=path, content=content, mode=mode)


def _by_address(entry: HostEntry) -> tuple[int, int, tuple[str, ...]]:
    """The order of the specification must not rewrite the file of every host."""
    address = ipaddress.ip_address(entry.address)
    return (address.version, int(address), entry.names)
