"""Runs on a host, with its own Python 3 and nothing else: unpacks bundles, removes them, turns links.

Sent over SSH on standard input; its one argument is a JSON object. Prints one JSON object: the result, or
`{"failed": kind, "message": …}`, or nothing when it is killed. Every action is safe to repeat.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

MARKER = ".levier-bundle.json"
"""The manifest inside of an unpacked bundle: written last, so what has one is complete."""
SPARE_BYTES = 64 << 20
"""Left free on the disk beyond what the bundle takes: a full root disk stops more than this."""
ATTEMPTS = 5
SILENCE_S = 30
LOOK_S = 0.2
"""Between two looks whether another process is done."""
CHUNK = 1 << 20


class Failure(Exception):
    """Ends the work; `kind` says what of, for the driver's table of errors."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Shelf:
    """The directories below /opt/levier."""

    def __init__(self, root: str) -> None:
        self.releases = Path(root, "releases")
        self.current = Path(root, "current")

    def marker(self, identity: str) -> dict[str, Any] | None:
        """The manifest of a complete bundle; None when there is no complete one."""
        try:
            found = json.loads((self.releases / identity / MARKER).read_text())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def links(self) -> dict[str, str]:
        """Component → the bundle that its link points to."""
        if not self.current.is_dir():
            return {}
        links = (path for path in self.current.iterdir() if path.is_symlink() and not path.name.startswith("."))
        return {path.name: Path(os.readlink(path)).name for path in links}

    @contextlib.contextmanager
    def held(self, *, wait_s: float = 0) -> Iterator[None]:
        """Nobody else works here meanwhile, and what a killed worker left half done is gone.

        Somebody who does is waited for. A shelf with nothing on it is gone afterwards.
        """
        lock = self.releases / ".lock"
        handle = self._hold(lock, time.monotonic() + wait_s)
        try:
            for pattern in (".unpacking-*", ".removing-*"):
                for leftover in self.releases.glob(pattern):
                    shutil.rmtree(leftover)
            yield
            self._remove_if_bare(lock)
        finally:
            os.close(handle)

    def _hold(self, lock: Path, until_s: float) -> int:
        while True:
            try:
                return self._hold_now(lock)
            except Failure:
                if time.monotonic() > until_s:
                    raise
            time.sleep(LOOK_S)

    def _hold_now(self, lock: Path) -> int:
        for directory in (self.releases, self.current):
            directory.mkdir(parents=True, exist_ok=True, mode=0o755)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if lock.exists() and os.path.samestat(os.fstat(handle), lock.stat()):
                return handle
            why = f"another process has just removed {self.releases}"
        except BlockingIOError:
            why = f"another process works in {self.releases}"
        os.close(handle)
        raise Failure("busy", why)

    def _remove_if_bare(self, lock: Path) -> None:
        if any(self.current.iterdir()) or any(path != lock for path in self.releases.iterdir()):
            return
        lock.unlink()
        for directory in (self.releases, self.current):
            directory.rmdir()
        with contextlib.suppress(OSError):  # there is something else in it, or it is a file system of its own
            self.releases.parent.rmdir()


def observe(shelf: Shelf, _request: dict[str, Any]) -> dict[str, Any]:
    """What is unpacked, and what is in use."""
    complete = {}
    if shelf.releases.is_dir():
        for path in shelf.releases.iterdir():
            found = None if path.name.startswith(".") else shelf.marker(path.name)
            if found is not None:
                complete[path.name] = found
    return {"bundles": complete, "links": shelf.links()}


def unpack(shelf: Shelf, request: dict[str, Any]) -> dict[str, Any]:
    """The bundle is unpacked, complete and flushed to disk."""
    manifest, identity = request["manifest"], request["identity"]
    with shelf.held():
        present = shelf.marker(identity)
        target = shelf.releases / identity
        if present is not None and present["sha256"] == manifest["sha256"]:
            return {"was_present": True, "fetched_bytes": 0, "resumed_bytes": 0}
        if target.exists() or target.is_symlink():
            what = f"another build, SHA-256 {present['sha256']}" if present else "no complete bundle"
            raise Failure("in-the-way", f"{target} is there and holds {what}")
        part = shelf.releases / f".fetch-{manifest['sha256']}"
        for other in shelf.releases.glob(".fetch-*"):
            if other != part:
                other.unlink()
        check_host(manifest)
        check_space(shelf, manifest, part)
        try:
            resumed, fetched = fetch(part, request["url"], manifest)
            extract(part, shelf.releases / f".unpacking-{identity}", target=target, manifest=manifest)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            part.unlink(missing_ok=True)
            shutil.rmtree(shelf.releases / f".unpacking-{identity}", ignore_errors=True)
            raise Failure("no-space", f"the disk of {shelf.releases} became full; it is cleaned up") from error
        part.unlink()
        return {"was_present": False, "fetched_bytes": fetched, "resumed_bytes": resumed}


def check_host(manifest: dict[str, Any]) -> None:
    """The host is what the bundle was built for, and has what unpacking and running take."""
    if os.uname().machine != manifest["architecture"]:
        raise Failure("unsuitable", f"the host is {os.uname().machine}, the bundle is for {manifest['architecture']}")
    python = f"python{manifest['python']}"
    if not os.access(f"/usr/bin/{python}", os.X_OK):
        raise Failure("unsuitable", f"there is no /usr/bin/{python}: the bundle is for {manifest['image']}")
    tools = [tool for tool in ("tar", "zstd", "sync") if shutil.which(tool) is None]
    if tools:
        raise Failure("missing", f"missing programs: {' '.join(tools)}")
    wanted = manifest["os_packages"]
    query = ["dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package}\n", *wanted]
    listing = subprocess.run(
        query,
        capture_output=True,
        text=True,
        check=False,
    )
    installed = {line.split()[1] for line in listing.stdout.splitlines() if line.startswith("ii")}
    if absent := [package for package in wanted if package not in installed]:
        raise Failure("missing", f"missing packages, whose libraries the bundle loads: {' '.join(absent)}")


def check_space(shelf: Shelf, manifest: dict[str, Any], part: Path) -> None:
    """The disk has room for the archive, what it unpacks to, and some more."""
    have = part.stat().st_size if part.exists() else 0
    needed = manifest["size_bytes"] - have + manifest["unpacked_bytes"] + SPARE_BYTES
    disk = os.statvfs(shelf.releases)
    free = disk.f_bavail * disk.f_frsize
    if free < needed:
        raise Failure("no-space", f"{shelf.releases} needs {mib(needed)} MiB, {mib(free)} MiB are free")
    if disk.f_files and disk.f_favail < manifest["files"]:
        raise Failure("no-space", f"{shelf.releases} needs {manifest['files']} inodes, {disk.f_favail} are free")


def is_full(directory: Path) -> bool:
    """Next to nothing can be written. tar does not tell: it says "wrote only 3072 of 10240 bytes"."""
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize < CHUNK or (disk.f_files > 0 and disk.f_favail == 0)


def mib(size_bytes: int) -> int:
    """Whole MiB."""
    return size_bytes >> 20


def fetch(part: Path, url: str, manifest: dict[str, Any]) -> tuple[int, int]:
    """`part` is the archive, its digest verified; bytes that were there already, and bytes that were fetched.

    A part of an earlier attempt is gone on with. Should the whole then be wrong, it is fetched once more from the
    start, because the part may be what is wrong.
    """
    for fresh in (False, True):
        resumed = part.stat().st_size if part.exists() else 0
        fetched = download(part, url, manifest)
        digest = digest_of(part)
        if digest == manifest["sha256"]:
            return resumed, fetched
        part.unlink()
        if fresh or not resumed:
            break
    raise Failure("checksum", f"{url} has SHA-256 {digest}, wanted is {manifest['sha256']}; it is thrown away")


def download(part: Path, url: str, manifest: dict[str, Any]) -> int:
    """`part` has the size of the archive; returns the bytes that were fetched. Each attempt goes on where one ended."""
    fetched = 0
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with part.open("ab") as out:
                for piece in pieces(url, manifest["sha256"], start=out.tell(), size=manifest["size_bytes"]):
                    if piece is None:
                        out.truncate(0)
                        continue
                    out.write(piece)
                    fetched += len(piece)
                out.flush()
                os.fsync(out.fileno())
            have = part.stat().st_size
            if have == manifest["size_bytes"]:
                return fetched
            if have > manifest["size_bytes"]:
                part.unlink()
                reason = f"the server sends more than {manifest['size_bytes']} bytes"
            else:
                reason = f"the connection ended after {have} of {manifest['size_bytes']} bytes"
        except urllib.error.HTTPError as error:
            raise refused(url, error) from error
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        if attempt < ATTEMPTS:
            time.sleep(min(0.1 * 2**attempt, 2.0))  # between two attempts
    raise Failure("unreachable", f"{url} cannot be fetched: {reason} ({ATTEMPTS} attempts)")


def refused(url: str, error: urllib.error.HTTPError) -> Failure:
    """The server's answer as a failure."""
    if error.code == http.HTTPStatus.NOT_FOUND:
        return Failure("not-served", f"{url} is not there")
    kind = "server-busy" if error.code == http.HTTPStatus.SERVICE_UNAVAILABLE else "refused"
    return Failure(kind, f"{url} is answered with {error.code} {error.reason}")


def pieces(url: str, sha256: str, *, start: int, size: int) -> Iterator[bytes | None]:
    """The content from byte `start` on; a None first when the server begins at the beginning all the same."""
    if start >= size:
        return
    request = urllib.request.Request(url)  # noqa: S310 - checked in main
    if start:
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", f'"{sha256}"')
    # Straight to Levier: a proxy that the host has for other things does not know this address.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=SILENCE_S) as response:
        if start and response.status != http.HTTPStatus.PARTIAL_CONTENT:
            yield None
        while piece := response.read(CHUNK):
            yield piece


def digest_of(path: Path) -> str:
    """Lower-case hexadecimal SHA-256 of the file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def extract(part: Path, work: Path, *, target: Path, manifest: dict[str, Any]) -> None:
    """`target` is the content of the archive, in one rename, flushed to disk before and after."""
    work.mkdir(mode=0o755)
    tar = ["tar", "--extract", f"--file={part}", "--use-compress-program=zstd --decompress", "--numeric-owner"]
    done = subprocess.run(
        [*tar, f"--directory={work}"], capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
    )
    if done.returncode:
        full = is_full(work) or "Disk quota exceeded" in done.stderr
        shutil.rmtree(work)
        if full:
            raise OSError(errno.ENOSPC, "tar found the disk full")
        raise Failure("refused", f"tar failed with status {done.returncode}: {done.stderr.strip()[-400:]}")
    (work / MARKER).write_text(json.dumps(manifest, indent=2) + "\n")
    subprocess.run(["sync", "--file-system", str(work)], check=True, stdin=subprocess.DEVNULL)
    work.rename(target)
    flush(target.parent)


def absent(shelf: Shelf, request: dict[str, Any]) -> dict[str, Any]:
    """The bundle is not there, nor half of it; nothing was in use of it."""
    identity = request["identity"]
    with shelf.held(wait_s=request["wait_s"]):
        users = sorted(component for component, used in shelf.links().items() if used == identity)
        if users:
            raise Failure("in-use", f"{identity} is in use by {', '.join(users)}")
        remove_parts(shelf)
        there = (shelf.releases / identity).exists()
        if there:
            remove(shelf, identity)
        return {"was_present": there}


def only(shelf: Shelf, request: dict[str, Any]) -> dict[str, Any]:
    """No complete bundle is there but those of `identities` and what is in use, nor half of one."""
    with shelf.held(wait_s=request["wait_s"]):
        remove_parts(shelf)
        kept = {*request["identities"], *shelf.links().values()}
        doomed = sorted(path.name for path in shelf.releases.iterdir() if path.name not in kept)
        removed = [name for name in doomed if not name.startswith(".") and shelf.marker(name) is not None]
        for identity in removed:
            remove(shelf, identity)
        return {"removed": removed}


def remove_parts(shelf: Shelf) -> None:
    """Nothing is there of an attempt that is not gone on with."""
    for part in shelf.releases.glob(".fetch-*"):
        part.unlink()


def remove(shelf: Shelf, identity: str) -> None:
    """The bundle is gone; at no moment half of it was there by its name."""
    doomed = shelf.releases / f".removing-{identity}"
    (shelf.releases / identity).rename(doomed)
    flush(shelf.releases)
    shutil.rmtree(doomed)


def turn(shelf: Shelf, request: dict[str, Any]) -> dict[str, Any]:
    """The component's link points to the bundle, or is not there; at no moment it was anything but old or new."""
    component, identity = request["component"], request["identity"]
    with shelf.held():
        before = shelf.links().get(component)
        link = shelf.current / component
        if link.exists() and not link.is_symlink():
            raise Failure("in-the-way", f"{link} is there and is no link")
        if before == identity:
            return {"before": before}
        if identity is None:
            link.unlink()
        else:
            if shelf.marker(identity) is None:
                raise Failure("not-unpacked", f"{identity} is not unpacked in {shelf.releases}")
            fresh = shelf.current / f".{component}.new"
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(shelf.releases / identity)
            fresh.replace(link)
        flush(shelf.current)
        return {"before": before}


def flush(directory: Path) -> None:
    """The directory's entries are on disk."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


ACTIONS: dict[str, Callable[[Shelf, dict[str, Any]], dict[str, Any]]] = {
    "observe": observe,
    "unpack": unpack,
    "absent": absent,
    "only": only,
    "turn": turn,
}


def main(argument: str) -> None:
    """One action is done and its result printed."""
    request = json.loads(argument)
    for name in ("identity", "component"):
        if request.get(name) is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", request[name]):
            raise ValueError(f"{name} is no name: {request[name]!r}")
    if not str(request.get("url", "http://")).startswith("http://"):
        raise ValueError(f"no HTTP address: {request['url']!r}")
    try:
        answer = ACTIONS[request["action"]](Shelf(request["root"]), request)
    except Failure as failure:
        answer = {"failed": failure.kind, "message": str(failure)}
    except OSError as error:
        answer = {"failed": "refused", "message": f"{error.filename or 'the host'}: {error.strerror or error}"}
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1])
