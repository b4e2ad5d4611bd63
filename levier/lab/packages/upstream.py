"""Where this machine itself gets Debian packages from, as apt understands its configuration. Nothing of it is kept."""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from levier.domain.errors import LevierError, NotFound
from levier.lab.commands import run_program

ARCHIVE, SECURITY = "debian", "debian-security"
"""The names under which the lab's mirror offers the two archives."""
_RELEASE_FILE = re.compile(r"^'([^']+)/dists/([^/']+)/InRelease' ", re.MULTILINE)
_SETTING = re.compile(r'^Acquire::([^ ]+) "(.*)";$', re.MULTILINE)
_SYMBOLIC = ("stable", "oldstable", "testing", "unstable", "sid")
DIRECT = "DIRECT"
_NO = ("false", "no", "0", "off", "disable", "without")


@dataclass(frozen=True, slots=True)
class Upstream:
    """One archive and how it is reached."""

    url: str
    proxy: str | None = None
    ask_environment: bool = True
    """apt says nothing of a proxy: variables such as `https_proxy` do, as for apt itself."""
    ca_file: str | None = None
    verify: bool = True

    def __repr__(self) -> str:
        return f"Upstream({urlsplit(self.url).scheme})"  # logs need no address, and it may hold a login


@dataclass(frozen=True, slots=True)
class Upstreams:
    """The archives of this machine's Debian, by the names of the lab's mirror."""

    archives: Mapping[str, Upstream]
    check_valid_until: bool = True
    """Whether apt here refuses lists that have expired."""


def discover_upstreams() -> Upstreams:
    """The archives that this machine's apt is configured to use. Reads only.

    Raises NotFound on a machine that is no Debian, or whose apt has no HTTP source of it.
    """
    hint = "name the archive in /etc/apt/sources.list.d, or use --no-packages"
    release = platform.freedesktop_os_release()
    if release.get("ID") != "debian":
        raise NotFound(f"this computer runs {release.get('ID')}, not Debian", hint="use --no-packages")
    try:
        uris = run_program(["apt-get", "update", "--print-uris"])
        settings = parse_settings(run_program(["apt-config", "dump", "Acquire"]))
    except (LevierError, subprocess.TimeoutExpired) as error:
        raise NotFound(f"apt does not tell its sources: {error}", hint=hint) from error
    urls = {name: _followed(url) for name, url in parse_archives(uris, release.get("VERSION_CODENAME", "")).items()}
    archives = {name: _upstream(url, settings) for name, url in urls.items() if url.startswith(("http:", "https:"))}
    if ARCHIVE not in archives:
        raise NotFound("apt on this computer has no HTTP source of Debian", hint=hint)
    return Upstreams(archives, check_valid_until=settings.get("check-valid-until", "true").lower() not in _NO)


def parse_archives(uris: str, codename: str) -> dict[str, str]:
    """The archives in what `apt-get update --print-uris` prints, for a release such as `bookworm`; the first counts."""
    found: dict[str, str] = {}
    for url, suite in _RELEASE_FILE.findall(uris):
        if suite in (codename, f"{codename}-updates", *_SYMBOLIC):
            found.setdefault(ARCHIVE, url)
        elif suite in (f"{codename}-security", *(f"{name}-security" for name in _SYMBOLIC)):
            found.setdefault(SECURITY, url)
    return found


def parse_settings(dump: str) -> dict[str, str]:
    """`apt-config dump Acquire` as names in lower case without the first part → value."""
    return {name.lower(): value for name, value in _SETTING.findall(dump)}


def _followed(url: str) -> str:
    """The first server of a list of mirrors in a file (apt-transport-mirror(1)), as cloud images of Debian have it."""
    if not url.startswith("mirror+file:"):
        return url
    path = Path("/" + url.removeprefix("mirror+file:").lstrip("/"))
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return next((line.split()[0].rstrip("/") for line in lines if line.startswith(("http:", "https:"))), url)


def _upstream(url: str, settings: Mapping[str, str]) -> Upstream:
    scheme, host = urlsplit(url).scheme, urlsplit(url).hostname or ""
    told = proxy_for(url, settings) or _detected(url, settings)
    return Upstream(
        url,
        proxy=None if told in (None, DIRECT) else told,
        ask_environment=told is None,
        ca_file=settings.get(f"https::cainfo::{host}") or settings.get("https::cainfo"),
        verify=scheme != "https" or settings.get("https::verify-peer", "true").lower() not in _NO,
    )


def proxy_for(url: str, settings: Mapping[str, str]) -> str | None:
    """The proxy of apt.conf(5) for this URL: of its host, else of its scheme; `DIRECT`: none, whatever else says."""
    scheme, host = urlsplit(url).scheme, urlsplit(url).hostname or ""
    names = [f"{scheme}::proxy::{host}", f"{scheme}::proxy", f"http::proxy::{host}", "http::proxy"]
    value = next((settings[name] for name in names if settings.get(name)), None)
    return DIRECT if value and value.upper() == DIRECT else value


def _detected(url: str, settings: Mapping[str, str]) -> str | None:
    """What the program of `Acquire::http::Proxy-Auto-Detect` answers for this URL."""
    scheme = urlsplit(url).scheme
    program = settings.get(f"{scheme}::proxy-auto-detect") or settings.get("http::proxy-auto-detect")
    if not program:
        return None
    try:
        said = run_program([program, url], timeout_s=10).strip()
    except (LevierError, subprocess.TimeoutExpired, OSError):
        return None
    return said if said == DIRECT or said.startswith(("http:", "https:")) else None
