"""The package index this machine itself uses: what pip and uv are configured with serves for releases too."""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Mapping
from pathlib import Path

_PASSED_ON = re.compile(
    r"UV_(DEFAULT_INDEX|INDEX|INDEX_URL|EXTRA_INDEX_URL|INDEX_STRATEGY|INDEX_\w+_(USERNAME|PASSWORD)|FIND_LINKS|NO_INDEX"
    r"|INSECURE_HOST|NATIVE_TLS|SYSTEM_CERTS|KEYRING_PROVIDER|HTTP_TIMEOUT|HTTP_RETRIES|CONFIG_FILE)"
    r"|(https?|all|no)_proxy|SSL_CERT_(FILE|DIR)|NETRC",
    re.IGNORECASE,
)
_INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL")
_OF_PIP = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
}
"""pip's options and uv's variables of the same meaning."""


def index_environment(environ: Mapping[str, str] | None = None, *, home: Path | None = None) -> dict[str, str]:
    """The environment in which uv finds packages where this machine's pip and uv find them. Reads files only.

    uv's own variables come first; pip's configuration is used where they name no index. It may hold credentials: it is
    handed to a process as its environment, never as arguments.
    """
    environ = os.environ if environ is None else environ
    found = {name: value for name, value in environ.items() if _PASSED_ON.fullmatch(name)}
    pip = _pip_options(environ, home or Path.home())
    if any(name in found for name in _INDEX_VARIABLES):
        pip = {name: value for name, value in pip.items() if name in ("cert", "proxy")}
    for option, variable in _OF_PIP.items():
        if value := " ".join(pip.get(option, "").split()):
            found.setdefault(variable, value)
    # As pip does: the best version of all indexes, and not the first index that has any. The digests decide anyway.
    found.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    return found


def index_choices() -> tuple[dict[str, str], ...]:
    """Environments to try one after the other: the main index alone, then, where there are any, the further ones too.

    uv takes a version from one index only. A further one that has the version, but not the file whose digest is in the
    lock, must not hide the main one.
    """
    full = index_environment()
    main = {name: value for name, value in full.items() if name not in ("UV_INDEX", "UV_EXTRA_INDEX_URL")}
    return (main,) if main == full else (main, full)


def _pip_options(environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """pip's options: from its files, later ones first, and its variables before all (pip's "Configuration" page)."""
    files = [
        Path("/etc/xdg/pip/pip.conf"),
        Path("/etc/pip.conf"),
        home / ".pip/pip.conf",
        Path(environ.get("XDG_CONFIG_HOME", str(home / ".config"))) / "pip/pip.conf",
    ]
    if chosen := environ.get("PIP_CONFIG_FILE"):
        files.append(Path(chosen))
    options: dict[str, str] = {}
    for path in files:
        options |= _global_section(path)
    for option in _OF_PIP:
        if value := environ.get(f"PIP_{option.upper().replace('-', '_')}"):
            options[option] = value
    return options


def _global_section(path: Path) -> dict[str, str]:
    """The options of one file that count for every command; none of a file that cannot be read."""
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except (OSError, configparser.Error, UnicodeDecodeError):
        return {}
    merged: dict[str, str] = {}
    for section in ("global", "install"):
        if parser.has_section(section):
            merged |= dict(parser.items(section))
    return merged
