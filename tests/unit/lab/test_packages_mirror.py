"""The lab's package mirror: what apt's configuration means, what is fetched how often, and what stays on the disk."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from levier.domain.errors import InvalidRequest
from levier.lab.packages.cache import PackageCache, is_archive_path, is_lasting
from levier.lab.packages.mirror import Mirror
from levier.lab.packages.upstream import (
    ARCHIVE,
    SECURITY,
    Upstream,
    Upstreams,
    parse_archives,
    parse_settings,
    proxy_for,
)
from levier.lab.sitefile import render_site
from levier.lab.spec import ChassisKind, MirrorSpec, RackSpec, plan_rack
from levier.services.sitefile import load_site

DEB, LIST = "pool/main/m/m_1%2b1.deb".replace("%2b", "+"), "dists/x/InRelease"


class _Archive(ThreadingHTTPServer):
    """An archive whose files are `files`; `gate` holds back the second half of a body."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.modified = 1_700_000_000.0
        self.asked: list[tuple[str, int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.breaks_off = False

    def close(self) -> None:
        """Nobody listens any more. Safe to repeat."""
        self.gate.set()
        if self.socket.fileno() >= 0:
            self.shutdown()
            self.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/debian"


class _Handler(BaseHTTPRequestHandler):
    server: _Archive

    def do_GET(self) -> None:
        path = self.path.removeprefix("/debian/")
        body = self.server.files.get(path)
        unchanged = self.headers["If-Modified-Since"] == formatdate(self.server.modified, usegmt=True)
        status = 404 if body is None else 304 if unchanged else 200
        self.server.asked.append((path, status))
        self.send_response(status)
        self.send_header("Last-Modified", formatdate(self.server.modified, usegmt=True))
        self.send_header("Content-Length", str(len(body or b"") if status == 200 else 0))
        self.end_headers()
        if status == 200 and body is not None:
            half = len(body) // 2
            self.wfile.write(body[:half])
            self.server.gate.wait(20)
            if not self.server.breaks_off:
                self.wfile.write(body[half:])

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def archive() -> Iterator[_Archive]:
    server = _Archive()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.close()
    thread.join()


@pytest.fixture
def cache(tmp_path: Path) -> PackageCache:
    return PackageCache(tmp_path / "cache")


def _client(archive: _Archive, cache: PackageCache) -> httpx.AsyncClient:
    mirror = Mirror(Upstreams({ARCHIVE: Upstream(archive.url, ask_environment=False)}), cache)
    return httpx.AsyncClient(transport=httpx.ASGITransport(mirror.app()), base_url="http://mirror/debian")


def test_a_package_is_fetched_once_and_a_list_asked_for_each_time(archive: _Archive, cache: PackageCache) -> None:
    archive.files = {DEB: os.urandom(700_000), LIST: b"one"}

    async def use() -> None:
        async with _client(archive, cache) as client:
            for _ in range(2):
                assert (await client.get(DEB)).content == archive.files[DEB]
                assert (await client.get(LIST)).content == b"one"
            known = (await client.get(LIST)).headers["Last-Modified"]
            assert (await client.get(LIST, headers={"If-Modified-Since": known})).status_code == 304
            part = await client.get(DEB, headers={"Range": "bytes=10-19"})
            assert (part.status_code, part.content) == (206, archive.files[DEB][10:20])
            archive.files[LIST], archive.modified = b"another", archive.modified + 60
            assert (await client.get(LIST)).content == b"another"

    asyncio.run(use())
    assert [status for path, status in archive.asked if path == DEB] == [200]
    assert [status for path, status in archive.asked if path == LIST] == [200, 304, 304, 304, 200]


def test_those_who_ask_at_the_same_time_share_one_fetch_and_read_on_as_it_arrives(
    archive: _Archive, cache: PackageCache
) -> None:
    archive.files = {DEB: os.urandom(3 << 20)}
    archive.gate.clear()

    async def use() -> None:
        async with _client(archive, cache) as client:
            readers = [asyncio.create_task(client.get(DEB)) for _ in range(5)]
            while not archive.asked:
                await asyncio.sleep(0.01)
            archive.gate.set()
            assert {(await reader).content for reader in readers} == {archive.files[DEB]}

    asyncio.run(use())
    assert archive.asked == [(DEB, 200)]


def test_what_broke_off_is_not_kept(archive: _Archive, cache: PackageCache) -> None:
    archive.files, archive.breaks_off = {DEB: os.urandom(1 << 20)}, True

    async def use() -> None:
        async with _client(archive, cache) as client:
            with pytest.raises(ConnectionError):
                await client.get(DEB)
            archive.breaks_off = False
            assert (await client.get(DEB)).content == archive.files[DEB]

    asyncio.run(use())
    assert [path.name for path in cache.root.rglob("*") if path.is_file()] == [Path(DEB).name]


def test_without_the_archive_the_cache_serves_and_the_rest_is_502(archive: _Archive, cache: PackageCache) -> None:
    archive.files = {LIST: b"one"}

    async def use() -> None:
        async with _client(archive, cache) as client:
            assert (await client.get(LIST)).content == b"one"
            assert (await client.get("dists/x/nothing")).status_code == 404
            await asyncio.to_thread(archive.close)
            assert (await client.get(LIST)).content == b"one"
            refused = await client.get(DEB)
            assert (refused.status_code, "127.0.0.1" in refused.text) == (502, False)

    asyncio.run(use())


def test_only_paths_of_archives_are_looked_at(archive: _Archive, cache: PackageCache) -> None:
    async def use() -> None:
        async with _client(archive, cache) as client:
            for path in ("http://mirror/other/dists/x", "http://mirror/debian/%2e%2e/%2e%2e/etc/passwd", "/etc/passwd"):
                assert (await client.get(path)).status_code == 404

    asyncio.run(use())
    assert archive.asked == []
    assert not is_archive_path("pool/../../etc/passwd")
    assert not is_archive_path("pool//x")
    assert not is_archive_path("pool/.part-x")
    assert is_archive_path("dists/bookworm/main/by-hash/SHA256/00ff")
    assert is_lasting("dists/bookworm/main/by-hash/SHA256/00ff")
    assert not is_lasting("dists/bookworm/InRelease")


def test_the_cache_is_bounded_and_keeps_what_was_used_last(tmp_path: Path) -> None:
    cache = PackageCache(tmp_path, limit_bytes=2500)
    now = time.time()
    for age_s, name in enumerate(("c", "b", "a")):
        path = cache.place("http://x", f"pool/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1000))
        os.utime(path, (now - age_s * 100, 0))
    cache.touch(cache.place("http://x", "pool/a"))
    abandoned = cache.fresh_part(cache.place("http://x", "pool/d"))
    os.utime(abandoned, (now - 7200, now - 7200))
    assert cache.trim() == 1000
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["a", "c"]
    assert cache.trim() == 0
    assert cache.place("http://y", "pool/a") != cache.place("http://x", "pool/a")


def test_the_archives_are_those_of_this_release() -> None:
    uris = (
        "'http://m.example/debian/dists/bookworm/InRelease' m 0 \n"
        "'http://m.example/debian/dists/bookworm/main/binary-amd64/Packages.xz' m 0 \n"
        "'http://n.example/debian/dists/bookworm-updates/InRelease' n 0 \n"
        "'http://m.example/debian-security/dists/bookworm-security/InRelease' m 0 \n"
        "'https://other.example/dists/nodistro/InRelease' o 0 \n"
    )
    assert parse_archives(uris, "bookworm") == {
        ARCHIVE: "http://m.example/debian",
        SECURITY: "http://m.example/debian-security",
    }
    assert parse_archives(uris, "trixie") == {}


def test_a_proxy_is_that_of_the_host_or_of_the_scheme() -> None:
    settings = parse_settings(
        'Acquire::http::Proxy "http://p.example:3128";\n'
        'Acquire::http::Proxy::near.example "DIRECT";\n'
        'Acquire::https::CaInfo "/etc/ssl/own.pem";\n'
        'Acquire::Check-Valid-Until "false";\n'
    )
    assert proxy_for("http://m.example/debian", settings) == "http://p.example:3128"
    assert proxy_for("https://m.example/debian", settings) == "http://p.example:3128"
    assert proxy_for("http://near.example/debian", settings) == "DIRECT"
    assert proxy_for("http://m.example/debian", {}) is None
    assert settings["check-valid-until"] == "false"


def test_the_site_file_names_the_mirror_and_the_description_survives() -> None:
    mirror = MirrorSpec(security=True, check_valid_until=False)
    spec = plan_rack(name="m", chassis=ChassisKind.NSPAWN, nodes=2, mirror=mirror)
    assert RackSpec.from_json(spec.to_json()) == spec
    packages = load_site(render_site(spec), "site.yaml").site.site.packages
    assert packages is not None
    assert packages.debian is not None
    assert packages.debian.mirror == "http://10.77.0.1:3142/debian"
    assert packages.debian.security_mirror == "http://10.77.0.1:3142/debian-security"
    assert not packages.debian.check_valid_until
    plain = plan_rack(name="m", chassis=ChassisKind.NSPAWN, nodes=2)
    assert load_site(render_site(plain), "site.yaml").site.site.packages is None
    with pytest.raises(InvalidRequest):
        plan_rack(name="m", chassis=ChassisKind.STUB, nodes=2, mirror=mirror)
