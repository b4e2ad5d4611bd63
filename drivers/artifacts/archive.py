"""The package archive this machine itself uses: its mirrors and keys serve for the images too."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from drivers.artifacts.command import run_tool
from levier.domain.errors import InvalidRequest

# Of `apt-get update --print-uris`: what it would fetch. Unlike `apt-get indextargets` this does not depend on what was
# fetched before: on a new machine the lists of updates and of security updates are often not there yet.
_INDEX = re.compile(r"^'(\S+)/dists/([^/']+)/([^/']+)/binary-[^/']+/Packages[^/']*' ", re.MULTILINE)
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


def parse_uris(listing: str, codename: str, source_files: Iterable[str]) -> Archive:
    """The archive that `listing` (of ``apt-get update --print-uris``) describes for the release `codename`.

    Only Debian's own suites count: the code name, with ``-updates`` or ``-security``. `source_files` are the texts of
    apt's sources: one that names an entry's address tells its key rings. Raises InvalidRequest when the release itself
    is missing.
    """
    keyrings = [(text, _keyrings(text)) for text in source_files]
    components: dict[tuple[str, str], dict[str, None]] = {}
    for uri, suite, component in _INDEX.findall(listing):
        if re.fullmatch(rf"{re.escape(codename)}(-updates|-security)?", suite) and component == "main":
            components.setdefault((uri, suite.removeprefix(codename)), {})[component] = None
    if not any(suffix == "" for _, suffix in components):
        raise InvalidRequest(f"apt on this machine has no source for the suite {codename}", hint=_HINT)

    def keys_of(uri: str) -> tuple[str, ...]:
        return next((keys for text, keys in keyrings if keys and _names(text, uri)), ())

    return Archive(
        tuple(ArchiveEntry(uri, suffix, tuple(names), keys_of(uri)) for (uri, suffix), names in components.items())
    )


def _names(source: str, uri: str) -> bool:
    """Whether the sources name this very address, and not only one that begins with it."""
    return re.search(rf"(?<!\S){re.escape(uri)}/?(?!\S)", source) is not None


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
    listing = run_tool(["apt-get", "update", "--print-uris"], timeout_s=60)
    return parse_uris(listing, codename, _source_files())


def _source_files() -> list[str]:
    """The texts of apt's sources (sources.list(5)), where Debian keeps them."""
    directory = Path("/etc/apt/sources.list.d")
    files = [Path("/etc/apt/sources.list"), *sorted(directory.glob("*.list")), *sorted(directory.glob("*.sources"))]
    return [path.read_text(encoding="utf-8") for path in files if path.is_file()]


def _keyrings(source: str) -> tuple[str, ...]:
    named = parse_keyrings(source)
    # The distribution's own key ring also knows the keys of the neighbouring releases.
    extra = (str(_ARCHIVE_KEYRING),) if _ARCHIVE_KEYRING.exists() else ()
    return tuple(dict.fromkeys(named + extra)) if named else ()
