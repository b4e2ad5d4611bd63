"""Where apt gets packages from: Levier's own deb822 file instead of the image's sources, which are set aside."""

from __future__ import annotations

import base64
import binascii
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined

from levier.domain.errors import MalformedReply, Unsupported
from levier.domain.package_sources import DebianSources
from levier.domain.packages import SourceFile, SourcesState
from levier.domain.ssh import RemoteHost

ASIDE = "/etc/levier/apt-sources"
SOURCES = "/etc/apt/sources.list.d/levier.sources"
PROXY = "/etc/apt/apt.conf.d/90levier-proxy"
_APT = "/etc/apt/"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_TIMEOUT_S = 60.0

_TEMPLATES = Environment(
    loader=PackageLoader("drivers.packages", package_path="."),
    undefined=StrictUndefined,
    autoescape=False,  # noqa: S701 - configuration files, not HTML; the site file's types refuse line breaks
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


@dataclass(frozen=True, slots=True)
class Archive:
    """One `deb822` stanza's worth of archive."""

    url: str
    suites: tuple[str, ...]


def render_sources(wanted: DebianSources, codename: str) -> dict[str, str]:
    """Path → content of Levier's own files for a release of Debian such as `bookworm`. Pure."""
    files = {}
    if wanted.mirror is not None:
        archives = [Archive(wanted.mirror, (codename, f"{codename}-updates"))]
        if wanted.security_mirror is not None:
            archives.append(Archive(wanted.security_mirror, (f"{codename}-security",)))
        files[SOURCES] = _TEMPLATES.get_template("debian.sources.j2").render(
            archives=archives,
            components=wanted.components,
            check_valid_until=wanted.check_valid_until,
            keyring=_KEYRING,
            aside=ASIDE,
        )
    if wanted.proxy is not None:
        lines = [f'Acquire::{scheme}::Proxy "{wanted.proxy}";\n' for scheme in ("http", "https")]
        files[PROXY] = "// Written by Levier, from `site.packages.debian.proxy` of the site file.\n" + "".join(lines)
    return files


@dataclass(frozen=True, slots=True)
class _Found:
    os_id: str
    codename: str
    files: tuple[SourceFile, ...]

    def content(self, path: str) -> bytes | None:
        return next((file.content for file in self.files if file.path == path), None)


class AptSourceFiles:
    """apt's source files on one host, which errors call `name`."""

    def __init__(self, host: RemoteHost, *, name: str) -> None:
        self._host = host
        self._name = name

    def state(self) -> SourcesState:
        """All of them, those set aside too. Changes nothing, safe to repeat."""
        return SourcesState(files=self._find().files)

    def ensure(self, wanted: DebianSources | None) -> tuple[str, ...]:
        """apt reads what `wanted` says; the paths that were written, moved or removed. Safe to repeat.

        Raises Unsupported on a host that is no Debian, when something is wanted.
        """
        found = self._find()
        own = self._render(wanted, found)
        foreign = [f.path for f in found.files if f.path not in (SOURCES, PROXY)]
        if SOURCES in own:
            # First the new file: a host without any sources would call every package unknown.
            changed = self._write(own, found)
            moved = [path for path in foreign if path.startswith(_APT)]
            self._run("set_aside", moved)
        else:
            moved = [path for path in foreign if path.startswith(ASIDE)]
            self._run("put_back", moved)
            changed = self._write(own, found)
        if moved:
            self._run("tidy", ())
        return (*changed, *moved)

    def restore(self, before: SourcesState) -> tuple[str, ...]:
        """The files are those of `before`, byte for byte; the paths that were written or removed. Safe to repeat."""
        now = {file.path: file for file in self._find().files}
        wanted = {file.path: file for file in before.files}
        put = [file for path, file in wanted.items() if now.get(path) != file]
        for file in put:
            directory = file.path.rpartition("/")[0]
            self._host.run(f"install -d -m 0755 -- {shlex.quote(directory)}")
            self._host.upload(file.content, file.path, mode=file.mode)
        gone = [path for path in now if path not in wanted]
        for path in gone:
            self._host.remove(path)
        if gone:
            self._run("tidy", ())
        return (*(file.path for file in put), *gone)

    def _render(self, wanted: DebianSources | None, found: _Found) -> dict[str, str]:
        if wanted is None:
            return {}
        if found.os_id != "debian" or found.codename == "none":
            raise Unsupported(
                f"{self._name} runs {found.os_id} {found.codename}; `site.packages.debian` is for releases of Debian",
                hint="Take a Debian image for this node.",
            )
        return render_sources(wanted, found.codename)

    def _write(self, own: dict[str, str], found: _Found) -> list[str]:
        changed = []
        for path in (SOURCES, PROXY):
            if path in own and self._host.upload(own[path].encode(), path):
                changed.append(path)
            if path not in own and found.content(path) is not None and self._host.remove(path):
                changed.append(path)
        return changed

    def _run(self, function: str, paths: Sequence[str]) -> str:
        text = resources.files("drivers.packages").joinpath("sources.sh").read_text(encoding="utf-8")
        return self._host.run(f"{text}\n{shlex.join([function, *paths])}\n", timeout_s=_TIMEOUT_S).stdout

    def _find(self) -> _Found:
        lines = self._run("state", ()).splitlines()
        try:
            _, os_id, codename = lines[0].split(" ")
            files = [
                SourceFile(path=path, mode=int(mode, 8), content=base64.b64decode(content, validate=True))
                for _, path, mode, content in (line.split(" ") for line in lines[1:])
            ]
        except (ValueError, IndexError, binascii.Error) as error:
            raise MalformedReply(
                f"{self._name}: apt's source files cannot be read: {error}", hint="Look at /etc/apt on the host."
            ) from error
        return _Found(os_id, codename, tuple(files))
