"""Bundles fetched by a real host from a real boot service over HTTP, driven over a real sshd."""

from __future__ import annotations

import fcntl
import http.client
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from drivers.bundle import Bundle
from drivers.bundle.host import current, ensure_absent, ensure_current, ensure_unpacked, observe
from levier.domain.errors import Busy, Conflict, Rejected, Unreachable
from levier.domain.release import BundleManifest
from tests.integration.prefect_server import free_port
from tests.integration.releases.conftest import Installation, place
from tests.rig.chroot_host import ChrootHost
from tests.rig.cutting_server import cutting_server

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]


@pytest.fixture(autouse=True)
def bare(host: ChrootHost) -> None:
    """The host has no bundle at the beginning."""
    shutil.rmtree(host.root / "opt/levier", ignore_errors=True)


def left_on(host: ChrootHost) -> list[str]:
    """What lies in the directory of releases, the lock apart."""
    releases = host.root / "opt/levier/releases"
    return sorted(p.name for p in releases.iterdir() if p.name != ".lock") if releases.exists() else []


def test_a_bundle_is_delivered_and_runs_also_where_it_was_moved_to(
    host: ChrootHost, served: Installation, bundle: Bundle
) -> None:
    delivery = ensure_unpacked(host.ssh, bundle.manifest, served.bundle_url(bundle))
    assert (delivery.was_present, delivery.fetched_bytes) == (False, bundle.manifest.size_bytes)
    assert left_on(host) == [bundle.manifest.identity]
    place = bundle.manifest.location
    table = host.ssh.run(f"printf 'a b\\n1 2\\n' | {place}/bin/tabulate --header").stdout
    assert table.splitlines()[1:] == ["---  ---", "  1    2"]
    compiled = host.ssh.run(f"{place}/bin/python -c 'import markupsafe._speedups as s; print(s.__file__)'").stdout
    assert compiled.startswith(f"{place}/lib/python3.11/site-packages/markupsafe/_speedups")
    host.ssh.run(f"mv {place} /srv/moved")
    try:
        assert host.ssh.run("printf '1 2\\n' | /srv/moved/bin/tabulate").stdout.split() == [
            "-",
            "-",
            "1",
            "2",
            "-",
            "-",
        ]
    finally:
        host.ssh.run("rm -r /srv/moved")


def test_a_repeat_changes_nothing_and_asks_nobody(host: ChrootHost, served: Installation, bundle: Bundle) -> None:
    ensure_unpacked(host.ssh, bundle.manifest, served.bundle_url(bundle))
    before = (host.root / bundle.manifest.location.lstrip("/")).stat()
    again = ensure_unpacked(host.ssh, bundle.manifest, f"http://127.0.0.1:{free_port()}/nobody")
    assert (again.was_present, again.fetched_bytes) == (True, 0)
    assert (host.root / bundle.manifest.location.lstrip("/")).stat() == before
    assert observe(host.ssh).bundles == {bundle.manifest.identity: bundle.manifest}


def test_an_interrupted_fetch_is_gone_on_with(host: ChrootHost, bundle: Bundle) -> None:
    with cutting_server(bundle.path, after_bytes=40_000) as server:
        delivery = ensure_unpacked(host.ssh, bundle.manifest, f"{server.url}/{bundle.manifest.sha256}")
    assert delivery.fetched_bytes == bundle.manifest.size_bytes
    assert [request.get("Range") for request in server.requests] == [None, "bytes=40000-", "bytes=80000-"]


def test_what_an_earlier_worker_left_half_done_is_used_or_removed(
    host: ChrootHost, served: Installation, bundle: Bundle
) -> None:
    releases = host.root / "opt/levier/releases"
    (releases / ".unpacking-other/lib").mkdir(parents=True)
    (releases / ".fetch-0000").write_bytes(b"of another bundle")
    (releases / f".fetch-{bundle.manifest.sha256}").write_bytes(bundle.path.read_bytes()[:50_000])
    delivery = ensure_unpacked(host.ssh, bundle.manifest, served.bundle_url(bundle))
    assert delivery.resumed_bytes == 50_000
    assert delivery.fetched_bytes == bundle.manifest.size_bytes - 50_000
    assert left_on(host) == [bundle.manifest.identity]


def test_a_damaged_part_is_thrown_away_and_the_whole_fetched_once_more(
    host: ChrootHost, served: Installation, bundle: Bundle
) -> None:
    releases = host.root / "opt/levier/releases"
    releases.mkdir(parents=True)
    (releases / f".fetch-{bundle.manifest.sha256}").write_bytes(b"x" * 50_000)
    delivery = ensure_unpacked(host.ssh, bundle.manifest, served.bundle_url(bundle))
    assert delivery.fetched_bytes == bundle.manifest.size_bytes
    assert left_on(host) == [bundle.manifest.identity]


def test_a_wrong_checksum_is_refused_before_anything_is_unpacked(
    host: ChrootHost, served: Installation, bundle: Bundle
) -> None:
    archive = place(served, bundle)
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    archive.write_bytes(content)
    try:
        with pytest.raises(Rejected, match=f"has SHA-256 [0-9a-f]{{64}}, wanted is {bundle.manifest.sha256}") as caught:
            ensure_unpacked(host.ssh, bundle.manifest, served.bundle_url(bundle))
    finally:
        place(served, bundle)
    assert "build the release again" in caught.value.hint
    assert left_on(host) == []


def test_a_server_that_is_not_there_or_has_no_such_bundle(
    host: ChrootHost, served: Installation, bundle: Bundle
) -> None:
    with pytest.raises(Unreachable, match=r"cannot be fetched: .*refused.* \(5 attempts\)"):
        ensure_unpacked(host.ssh, bundle.manifest, f"http://127.0.0.1:{free_port()}/bundles/x")
    with pytest.raises(Rejected, match="is not there") as caught:
        ensure_unpacked(host.ssh, bundle.manifest, f"{served.boot_url}/bundles/{'0' * 64}")
    assert caught.value.hint == "build the release: levier release build"
    with pytest.raises(Rejected, match="no HTTP address"):
        ensure_unpacked(host.ssh, bundle.manifest, "file:///etc/shadow")


def test_a_disk_that_is_too_small_is_refused_with_figures(
    host: ChrootHost, served: Installation, bundle: Bundle
) -> None:
    with host.small_disk(32 * 1024):
        with pytest.raises(Rejected, match=r"/opt/levier/releases needs 64 MiB, 3[12] MiB are free"):
            ensure_unpacked(host.ssh, bundle.manifest, served.bundle_url(bundle))
        assert left_on(host) == []


def test_a_disk_that_becomes_full_is_cleaned_up(host: ChrootHost, tmp_path: Path, bundle: Bundle) -> None:
    """The manifest says less than the bundle holds: as when something else fills the disk meanwhile."""
    (tmp_path / "content").mkdir()
    with (tmp_path / "content/zeros").open("wb") as file:
        file.write(bytes(200 << 20))
    archive = tmp_path / "bundle"
    compressor = ["--use-compress-program=zstd -q -1", "--create", f"--file={archive}"]
    subprocess.run(["tar", *compressor, f"--directory={tmp_path / 'content'}", "."], check=True)
    digest = subprocess.run(["sha256sum", archive], capture_output=True, text=True, check=True).stdout.split()[0]
    told = {"sha256": digest, "size_bytes": archive.stat().st_size, "unpacked_bytes": 4096}
    manifest = bundle.manifest.model_copy(update=told)
    with host.small_disk(100 * 1024), cutting_server(archive) as server:
        with pytest.raises(Rejected, match="the disk of /opt/levier/releases became full; it is cleaned up"):
            ensure_unpacked(host.ssh, manifest, f"{server.url}/{digest}")
        assert left_on(host) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"architecture": "riscv64"}, "the host is x86_64, the bundle is for riscv64"),
        ({"python": "3.10"}, "there is no /usr/bin/python3.10: the bundle is for debian-12"),
        (
            {"os_packages": ("libc6", "libnonesuch7")},
            "missing packages, whose libraries the bundle loads: libnonesuch7",
        ),
    ],
)
def test_a_host_that_cannot_run_it_is_told_what_is_missing(
    host: ChrootHost, served: Installation, bundle: Bundle, change: dict[str, object], said: str
) -> None:
    manifest: BundleManifest = bundle.manifest.model_copy(update=change)
    with pytest.raises(Rejected) as caught:
        ensure_unpacked(host.ssh, manifest, served.bundle_url(bundle))
    assert caught.value.message == said
    assert caught.value.hint
    assert left_on(host) == []


def test_a_missing_tool_is_named(host: ChrootHost, served: Installation, bundle: Bundle) -> None:
    for program, said in (("zstd", "missing programs: zstd"), ("python3", "there is no python3 on the host")):
        found, away = host.root / f"usr/bin/{program}", host.root / f"root/{program}"
        found.rename(away)
        try:
            with pytest.raises(Rejected, match=said):
                ensure_unpacked(host.ssh, bundle.manifest, served.bundle_url(bundle))
        finally:
            away.rename(found)


def test_two_at_once_do_not_meet(host: ChrootHost, served: Installation, bundle: Bundle) -> None:
    observe(host.ssh)
    releases = host.root / "opt/levier/releases"
    releases.mkdir(parents=True)
    with (releases / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Busy, match="another process works in /opt/levier/releases"):
            ensure_unpacked(host.ssh, bundle.manifest, served.bundle_url(bundle))


def test_versions_side_by_side_and_links_flipped_and_flipped_back(
    host: ChrootHost, served: Installation, bundle: Bundle, later_bundle: Bundle
) -> None:
    first, second = bundle.manifest.identity, later_bundle.manifest.identity
    for each in (bundle, later_bundle):
        ensure_unpacked(host.ssh, each.manifest, served.bundle_url(each))
    assert current(host.ssh, "keystone") is None
    assert ensure_current(host.ssh, "keystone", first) is None
    assert ensure_current(host.ssh, "nova-api", first) is None
    version = "/opt/levier/current/keystone/bin/python -c 'import tabulate; print(tabulate.__version__)'"
    assert host.ssh.run(version).stdout == "0.9.0\n"
    assert ensure_current(host.ssh, "keystone", second) == first
    assert ensure_current(host.ssh, "keystone", second) == second  # a repeat
    assert host.ssh.run(version).stdout == "0.10.0\n"
    assert observe(host.ssh).links == {"keystone": second, "nova-api": first}
    assert ensure_current(host.ssh, "keystone", first) == second  # the undo
    assert host.ssh.run(version).stdout == "0.9.0\n"
    assert ensure_current(host.ssh, "nova-api", None) == first
    assert ensure_current(host.ssh, "nova-api", None) is None
    assert observe(host.ssh).links == {"keystone": first}


def test_a_link_is_never_absent_while_it_is_flipped(
    host: ChrootHost, served: Installation, bundle: Bundle, later_bundle: Bundle
) -> None:
    for each in (bundle, later_bundle):
        ensure_unpacked(host.ssh, each.manifest, served.bundle_url(each))
    ensure_current(host.ssh, "keystone", bundle.manifest.identity)
    reader = "while [ ! -e /tmp/stop ]; do readlink /opt/levier/current/keystone || exit 9; done | sort -u"
    try:
        with ThreadPoolExecutor(1) as pool:
            seen = pool.submit(host.ssh.run, reader)
            for turn in range(6):
                wanted = (later_bundle, bundle)[turn % 2]
                ensure_current(host.ssh, "keystone", wanted.manifest.identity)
            (host.root / "tmp/stop").touch()
            assert set(seen.result().stdout.split()) <= {bundle.manifest.location, later_bundle.manifest.location}
    finally:
        (host.root / "tmp/stop").unlink()


def test_what_is_in_use_is_not_removed_and_what_is_not_there_is_not_used(
    host: ChrootHost, served: Installation, bundle: Bundle, later_bundle: Bundle
) -> None:
    identity = bundle.manifest.identity
    ensure_unpacked(host.ssh, bundle.manifest, served.bundle_url(bundle))
    ensure_current(host.ssh, "keystone", identity)
    with pytest.raises(Conflict, match=f"{identity} is in use by keystone"):
        ensure_absent(host.ssh, identity)
    with pytest.raises(Conflict, match="is not unpacked"):
        ensure_current(host.ssh, "keystone", later_bundle.manifest.identity)
    assert current(host.ssh, "keystone") == identity
    ensure_current(host.ssh, "keystone", None)
    assert ensure_absent(host.ssh, identity) is True
    assert ensure_absent(host.ssh, identity) is False
    assert not (host.root / "opt/levier").exists()
    assert observe(host.ssh).bundles == {}


def test_half_an_archive_goes_with_what_is_given_up(host: ChrootHost, bundle: Bundle) -> None:
    part = host.root / f"opt/levier/releases/.fetch-{bundle.manifest.sha256}"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"half")
    assert ensure_absent(host.ssh, bundle.manifest.identity) is False
    assert not (host.root / "opt/levier").exists()


def test_what_somebody_else_put_there_is_not_overwritten(
    host: ChrootHost, served: Installation, bundle: Bundle
) -> None:
    place = host.root / bundle.manifest.location.lstrip("/")
    place.mkdir(parents=True)
    (place / "file").write_text("mine")
    with pytest.raises(Conflict, match="is there and holds no complete bundle"):
        ensure_unpacked(host.ssh, bundle.manifest, served.bundle_url(bundle))
    assert (place / "file").read_text() == "mine"


def test_the_boot_service_serves_whole_bundles_and_ranges_to_many_at_once(served: Installation, bundle: Bundle) -> None:
    content = bundle.path.read_bytes()
    path, etag = f"/bundles/{bundle.manifest.sha256}", f'"{bundle.manifest.sha256}"'

    def ask(method: str = "GET", **headers: str) -> tuple[int, bytes, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection("127.0.0.1", served.settings.boot_port, timeout=20)
        connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, body, answer.headers

    status, body, headers = ask("HEAD")
    assert (status, body, headers["ETag"], headers["Accept-Ranges"]) == (200, b"", etag, "bytes")
    assert int(headers["Content-Length"]) == len(content)
    assert ask(Range="bytes=1000-1999", If_Range=etag)[:2] == (206, content[1000:2000])
    assert ask(Range="bytes=1000-", If_Range='"another"')[:2] == (200, content)
    assert ask(Range=f"bytes={len(content)}-")[0] == 416
    with ThreadPoolExecutor(20) as pool:
        assert all(body == content for _, body, _ in pool.map(lambda _: ask(), range(40)))
