"""The files that a lock names, fetched before the build: the build itself has no network at all."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx

from drivers.artifacts.shelf import file_digest
from drivers.bundle.index import index_choices, index_environment
from drivers.bundle.tool import ask_index
from levier.domain.errors import Rejected, Unreachable
from levier.domain.release import Lock, PinnedPackage, normal_name

Progress = Callable[[str], None]

_AT_ONCE = 8
_ATTEMPTS = 3
_TELL_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class Target:
    """What the files have to run on: the version of Python, such as 3.11, and the platform as uv names it."""

    python: str
    platform: str


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a package, where the index says it is. `url` may hold no secret: it is named in errors."""

    name: str
    url: str
    sha256: str
    size_bytes: int

    def place(self, store: Path) -> Path:
        """Where it is kept: by its digest, under the name that says what it is."""
        return store / self.sha256 / self.name


def locate(lock: Lock, target: Target, work: Path) -> tuple[RemoteFile, ...]:
    """The files of the lock for that target: wheels that run there, or else the source distribution.

    Nothing is built for this. Raises Unreachable without an index; Rejected when no index has a file for a package
    whose digest is in the lock.
    """
    files: list[RemoteFile] = []
    missing = lock.packages
    choices = index_choices()
    for index in choices:
        try:
            offered = _offers(missing, target, index=index, work=work)
        except Rejected:
            if index is choices[-1]:
                raise
            continue  # one that has not all of them: the further ones are asked too
        chosen = {package: _choose(package, offered.get(package.name, {}), work) for package in missing}
        files += [file for found in chosen.values() for file in found]
        missing = tuple(package for package, found in chosen.items() if not found)
        if not missing:
            return tuple(files)
    names = ", ".join(f"{package.name} {package.version}" for package in missing)
    raise Rejected(
        f"the package index has no file with a digest of the lock for Python {target.python} on {target.platform}: "
        f"{names}",
        hint="use an index that carries these files, or lock the release anew",
    )


def _offers(
    packages: Iterable[PinnedPackage], target: Target, *, index: Mapping[str, str], work: Path
) -> dict[str, dict[str, Any]]:
    """What the index has of each package for that target, by name (PEP 751)."""
    wanted = tuple(packages)
    (work / "wanted.txt").write_text("".join(f"{each.name}=={each.version}\n" for each in wanted), encoding="utf-8")
    (work / "pyproject.toml").write_text(_known_metadata(wanted), encoding="utf-8")
    options = ["--no-deps", "--no-header", "--no-annotate", "--format", "pylock.toml", "-o", "pylock.toml"]
    where = ["--python-version", target.python, "--python-platform", target.platform]
    ask_index(["pip", "compile", "wanted.txt", *options, *where], index=index, cwd=work, timeout_s=300)
    found = tomllib.loads((work / "pylock.toml").read_text(encoding="utf-8"))
    return {normal_name(entry["name"]): entry for entry in found.get("packages", [])}


def _known_metadata(packages: Iterable[PinnedPackage]) -> str:
    """A configuration that tells uv what it would otherwise learn by running a source distribution's set-up code."""
    lines = [
        f"  {{ name = {json.dumps(each.name)}, version = {json.dumps(each.version)}, requires-dist = [] }},\n"
        for each in packages
    ]
    return f"[tool.uv]\ndependency-metadata = [\n{''.join(lines)}]\n"


def _choose(package: PinnedPackage, offered: dict[str, Any], base: Path) -> list[RemoteFile]:
    wheels = _allowed(package, offered.get("wheels", []), base)
    return wheels or _allowed(package, [offered["sdist"]] if "sdist" in offered else [], base)


def _allowed(package: PinnedPackage, entries: Iterable[dict[str, Any]], base: Path) -> list[RemoteFile]:
    files = []
    for entry in entries:
        url = str(entry.get("url") or (base / entry["path"]).resolve().as_uri())
        sha256 = str(entry.get("hashes", {}).get("sha256", ""))
        if sha256 in package.sha256s:
            name = str(entry.get("name") or unquote(urlsplit(url).path.rsplit("/", 1)[-1]))
            files.append(RemoteFile(name, url, sha256, int(entry.get("size", 0))))
    return files


def fetch(files: Iterable[RemoteFile], store: Path, progress: Progress) -> tuple[Path, ...]:
    """Every file is in `store`, byte for byte what its digest says; what was there already is not fetched again.

    Safe to repeat and to interrupt. Raises Unreachable, or Rejected for a wrong digest, naming the file.
    """
    store.mkdir(parents=True, exist_ok=True)
    wanted = tuple(files)
    missing = [file for file in wanted if not file.place(store).is_file()]
    if missing:
        _fetch_all(missing, store, progress)
    return tuple(file.place(store) for file in wanted)


def _fetch_all(files: list[RemoteFile], store: Path, progress: Progress) -> None:
    count, total_bytes = len(files), sum(file.size_bytes for file in files)
    progress(f"fetching {count} files, {total_bytes / 2**20:.0f} MiB")
    stop = threading.Event()
    with ExitStack() as stack:
        client = stack.enter_context(_client())
        pool = stack.enter_context(ThreadPoolExecutor(_AT_ONCE))
        stack.callback(stop.set)  # before the pool waits for its threads
        running = [pool.submit(_fetch_one, client, file, store=store, stop=stop) for file in files]
        stack.callback(lambda: [each.cancel() for each in running])
        told, done_bytes = time.monotonic(), 0
        for done, future in enumerate(as_completed(running), 1):
            done_bytes += future.result()
            if time.monotonic() - told > _TELL_EVERY_S:
                told = time.monotonic()
                progress(f"fetched {done} of {count} files, {done_bytes / 2**20:.0f} MiB")


def _client() -> httpx.Client:
    """With the proxies, certificates and credentials (.netrc) of the environment, like uv."""
    environment = index_environment()
    verify = httpx.create_ssl_context()
    if bundle := environment.get("SSL_CERT_FILE"):
        verify.load_verify_locations(bundle)
    indexes = [*environment.get("UV_INDEX", "").split(), environment.get("UV_DEFAULT_INDEX", "")]
    logins = {
        parts.hostname: (unquote(parts.username), unquote(parts.password or ""))
        for parts in (urlsplit(index.rpartition("=")[2] if "://" not in index else index) for index in indexes)
        if parts.hostname and parts.username
    }
    proxy = environment.get("ALL_PROXY")
    return httpx.Client(verify=verify, follow_redirects=True, timeout=60, auth=_by_host(logins), proxy=proxy)


def _by_host(logins: dict[str, tuple[str, str]]) -> Callable[[httpx.Request], httpx.Request]:
    """The login of an index goes to that index's own host only."""

    def login(request: httpx.Request) -> httpx.Request:
        known = logins.get(request.url.host)
        if known is not None:
            return next(httpx.BasicAuth(*known).auth_flow(request))
        return request

    return login


def _fetch_one(client: httpx.Client, file: RemoteFile, *, store: Path, stop: threading.Event) -> int:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _store(client, file, store=store, stop=stop)
        except (httpx.HTTPError, Unreachable) as error:
            if attempt == _ATTEMPTS or stop.is_set():
                raise Unreachable(
                    f"{file.name} cannot be fetched: {error or type(error).__name__}",
                    hint="look at the network and the index, then build again: what was fetched is kept",
                ) from error
    raise AssertionError("unreachable: the last attempt returns or raises")


def _store(client: httpx.Client, file: RemoteFile, *, store: Path, stop: threading.Event) -> int:
    with tempfile.TemporaryDirectory(dir=store, prefix=".fetching-") as directory:
        half = Path(directory) / file.name
        digest = hashlib.sha256()
        with half.open("wb") as out:
            for piece in _pieces(client, file):
                if stop.is_set():
                    raise Unreachable("given up: another file could not be fetched")
                digest.update(piece)
                out.write(piece)
        if digest.hexdigest() != file.sha256:
            raise Rejected(
                f"{file.name} has SHA-256 {digest.hexdigest()}, the lock has {file.sha256}",
                hint="the index or a proxy on the way serves another file under this name: do not use it",
            )
        size_bytes = half.stat().st_size
        half.chmod(0o644)
        target = file.place(store)
        target.parent.mkdir(exist_ok=True)
        os.replace(half, target)
        return size_bytes


def _pieces(client: httpx.Client, file: RemoteFile) -> Iterable[bytes]:
    if file.url.startswith("file:"):
        yield Path(unquote(urlsplit(file.url).path)).read_bytes()
        return
    with client.stream("GET", file.url) as response:
        response.raise_for_status()
        yield from response.iter_bytes(1 << 20)


def verify(paths: Iterable[Path]) -> None:
    """Every file still has the digest that its directory is named by. Raises Rejected, having removed what has not."""
    for path in paths:
        if file_digest(path) != path.parent.name:
            path.unlink()
            raise Rejected(f"{path} was damaged, and is removed", hint="build again: it is fetched anew")
