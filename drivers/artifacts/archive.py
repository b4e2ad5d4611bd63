"""The package archive this machine itself uses: its mirrors and keys serve for the images too."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from drivers.artifacts.command import run_tool
from levier.domain.errors import InvalidRequest

_FORMAT = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(SOURCESENTRY)"
_ARCHIVE_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_HINT = "build on a Debian machine whose apt sources name the suites in full, e.g. `bookworm main`"


@dataclass(frozen=True, slots=True)
class ArchiveEntry:
    """One repository of the archive.

    `suffix` is what follows the code name in its suite: nothing, ``-updates`` or ``-security``.
    """

    uri: str
    suffix: str
    components: tuple[str, ...]
    keyrings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Archive:
    """The repositories one distribution release is made of."""

    entries: tuple[ArchiveEntry, ...]

    def sources_list(self, suite: str) -> str:
        """The archive in the form of sources.list(5) for the distribution release `suite`."""
        lines = []
        for entry in self.entries:
            options = f" [signed-by={','.join(entry.keyrings)}]" if entry.keyrings else ""
            lines.append(f"deb{options} {entry.uri} {suite}{entry.suffix} {' '.join(entry.components)}\n")
        return "".join(lines)


def parse_targets(listing: str, codename: str, keyrings_of: dict[str, tuple[str, ...]]) -> Archive:
    """The archive that `listing` (lines of ``uri|suite|component|source``) describes for the release `codename`.

    Only Debian's own suites count: the code name, with ``-updates`` or ``-security``. Raises InvalidRequest when the
    release itself is missing.
    """
    components: dict[tuple[str, str], list[str]] = {}
    origin: dict[tuple[str, str], str] = {}
    for line in filter(None, listing.splitlines()):
        uri, suite, component, source = line.split("|", 3)
        if not re.fullmatch(rf"{re.escape(codename)}(-updates|-security)?", suite) or component != "main":
            continue
        key = (uri.rstrip("/"), suite.removeprefix(codename))
        components.setdefault(key, [])
        if component not in components[key]:
            components[key].append(component)
        origin[key] = source.rsplit(":", 1)[0]
    if not any(suffix == "" for _, suffix in components):
        raise InvalidRequest(f"apt on this machine has no source for the suite {codename}", hint=_HINT)
    return Archive(
        tuple(
            ArchiveEntry(uri, suffix, tuple(names), keyrings_of.get(origin[uri, suffix], ()))
            for (uri, suffix), names in components.items()
        )
    )


def parse_keyrings(text: str) -> tuple[str, ...]:
    """The key ring files a sources file names, in either format of sources.list(5)."""
    named = re.findall(r"^\s*Signed-By:\s*(/\S.*)$", text, re.MULTILINE | re.IGNORECASE)
    named += re.findall(r"^\s*deb\s+\[[^\]]*\bsigned-by=([^\s\]]+)", text, re.MULTILINE | re.IGNORECASE)
    return tuple(dict.fromkeys(path for value in named for path in re.split(r"[\s,]+", value.strip())))


def discover_archive() -> Archive:
    """The archive of this machine, as apt understands its sources. Reads only.

    Raises InvalidRequest on a machine that is no Debian, or whose sources name no release.
    """
    release = platform.freedesktop_os_release()
    codename = release.get("VERSION_CODENAME", "")
    if release.get("ID") != "debian" or not codename:
        raise InvalidRequest(f"images are built on Debian, this is {release.get('PRETTY_NAME', 'unknown')}", hint=_HINT)
    listing = run_tool(["apt-get", "indextargets", "--format", _FORMAT, "Created-By: Packages"], timeout_s=60)
    sources = {line.rsplit("|", 1)[1].rsplit(":", 1)[0] for line in listing.splitlines() if "|" in line}
    return parse_targets(listing, codename, {source: _keyrings_in(source) for source in _existing(sources)})


def _existing(sources: Iterable[str]) -> Iterable[str]:
    return (source for source in sources if Path(source).is_file())


def _keyrings_in(source: str) -> tuple[str, ...]:
    named = parse_keyrings(Path(source).read_text(encoding="utf-8"))
    # The distribution's own key ring also knows the keys of the neighbouring releases.
    extra = (str(_ARCHIVE_KEYRING),) if _ARCHIVE_KEYRING.exists() else ()
    return tuple(dict.fromkeys(named + extra)) if named else ()
