"""What apt complains about, as errors that name host, mirror and the way out."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

from levier.domain.errors import Busy, LevierError, NotFound, Rejected, Unreachable

_QUOTED_CHARS = 700

_UNREACHABLE = re.compile(
    r"Could not (resolve|connect)|Unable to connect|Connection (refused|timed out|reset|failed)|Temporary failure|"
    r"Cannot initiate the connection|Network is unreachable|No route to host|timed out|Timeout was reached|"
    r"Error reading from server|Remote end closed|Undetermined Error|The HTTP server sent an invalid|"
    r"^(?:E|W): .*\s5\d\d  ?[A-Z]",
    re.MULTILINE,
)
_CHANGING = re.compile(r"Hash Sum mismatch|unexpected size|Mirror sync in progress|File has changed")
_NO_ROOM = re.compile(r"No space left|enough free space|Disk quota exceeded")
_LOCKED = re.compile(r"^.*(?:Could not get lock|was locked by|database is locked|has not ended).*$", re.MULTILINE)
_EXPIRED = re.compile(r"is expired|not valid yet|no longer valid")
_UNTRUSTED = re.compile(r"NO_PUBKEY|not signed|BADSIG|EXPKEYSIG|REVKEYSIG|couldn't be verified|Sub-process .*sqv")
_ABSENT = re.compile(r"does not have a Release file|\s40[34]  ?[A-Z]|no longer has a Release file")
_UNKNOWN = re.compile(
    r"^E: (?:Unable to locate package (\S+)|Package '([^']+)' has no installation candidate)", re.MULTILINE
)

_REACH = "Check that the mirror runs and that the host has a way to it; `site.packages` in the site file names it."
LOCKED = 75
"""Status of `work` in apt.sh when something else held the packages for too long."""


def mirrors_in(text: str) -> tuple[str, ...]:
    """The servers that are named in `text`, without logins."""
    found = {_without_login(url) for url in re.findall(r"https?://[^\s'\"]+", text)}
    return tuple(sorted(found))


def _complaints(output: str) -> str:
    """The lines in which apt complains, without the one that only sums them up; everything if there is none."""
    lines = [line for line in output.splitlines() if line.startswith(("E: ", "W: "))]
    return "\n".join(line for line in lines if "Some index files failed" not in line) or output


def _without_login(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.partition("/dists/")[0], "", ""))


def fetch_error(host: str, output: str, *, mirrors: str) -> LevierError:
    """Why lists or packages could not be fetched. `mirrors`: what the host is configured to ask."""
    complaints = _complaints(output)
    named = ", ".join(mirrors_in(complaints)) or mirrors
    said = quoted(complaints)
    if _NO_ROOM.search(complaints):
        return Rejected(f"{host}: no space left for packages: {said}", hint="Free space on the host, then repeat.")
    if _EXPIRED.search(complaints):
        return Rejected(
            f"{host}: the package mirror {named} offers lists that have expired: {said}",
            hint="Set the host's clock right, or have the mirror updated; `check_valid_until: false` below "
            "`site.packages.debian` accepts them as they are.",
        )
    if _UNTRUSTED.search(complaints):
        return Rejected(
            f"{host}: the package mirror {named} offers lists without a valid signature: {said}",
            hint="Check that it is a mirror of this distribution; the host knows the distribution's own keys.",
        )
    if _CHANGING.search(complaints):
        return Busy(f"{host}: the package mirror {named} is just being updated: {said}", hint="Repeat in a while.")
    if _UNREACHABLE.search(complaints):
        return Unreachable(f"{host}: the package mirror {named} cannot be reached: {said}", hint=_REACH)
    if _ABSENT.search(complaints):
        return Rejected(
            f"{host}: the package mirror {named} does not have what is asked for: {said}",
            hint="Check the URL and that the mirror carries this release of the distribution.",
        )
    return Rejected(f"{host}: packages cannot be fetched from {named}: {said}", hint="Mend what the message names.")


def unknown_error(host: str, missing: list[str], *, mirrors: str) -> NotFound:
    """Names or versions that no mirror offers."""
    return NotFound(
        f"{host}: the package mirror {mirrors} does not offer {', '.join(missing)}",
        hint="Correct the name, add the archive's component, or take a mirror of this release of the distribution.",
    )


def resolution_error(host: str, output: str, *, mirrors: str) -> LevierError:
    """Why apt finds no way to install what was asked for."""
    unknown = [first or second for first, second in _UNKNOWN.findall(output)]
    if unknown:
        return unknown_error(host, unknown, mirrors=mirrors)
    return Rejected(
        f"{host}: apt finds no way to install the packages: {quoted(output)}",
        hint="Mostly the image is older than the mirror: build the image anew, "
        "or let installed packages be updated: `may_update: true` in site.packages.",
    )


def busy_error(host: str, output: str) -> Busy:
    """Something else works on the packages."""
    match = _LOCKED.search(output)
    holder = match[0].removeprefix("E: ").strip() if match else "a lock is held"
    return Busy(f"{host}: something else works on the packages: {holder}", hint="Wait for it to end, then repeat.")


def failed_error(host: str, what: str, output: str) -> Rejected:
    """dpkg or a package's own script failed."""
    return Rejected(
        f"{host}: {what} failed: {quoted(output)}",
        hint="/var/log/apt/term.log and /var/log/dpkg.log on the host have all of it; mend the cause, then repeat.",
    )


def quoted(output: str) -> str:
    """The end of what a program said, without logins in URLs."""
    lines = [line.strip() for line in output.strip().splitlines() if line.strip()]
    text = "; ".join(lines) if len(lines) <= 12 else "; ".join(lines[-12:])
    return re.sub(r"(https?://)[^/\s@]+@", r"\1", text)[-_QUOTED_CHARS:] or "no message"
