"""How long a release takes to 1, 10 and 50 hosts at once, beside the least that the same work can take.

Hosts are nspawn containers on one bridge; the boot service is the real one. The floor is measured in the same run,
with the same server, hosts and disk: each host fetches the same file, unpacks it and flushes it, with nothing verified.

The disk is a compressed file system in memory (it takes mkfs.btrfs, of Debian's btrfs-progs), so that no single disk
decides; ten hosts fit. With LEVIER_BENCH_DISK=yes it is that of /var/tmp: it may be fast until a burst is used up,
so the floor is measured before and after, and the mean counts.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from drivers.bundle import Bundle, build_bundle
from drivers.bundle.host import ensure_absent, ensure_unpacked
from drivers.ssh import open_host
from levier.domain.ssh import RemoteHost
from levier.lab.sysctl import raise_inotify_limit, restore_inotify_limit
from levier.services.cloud import UNPACKING
from levier.services.release_catalogue import read_release, shipped_directory
from tests.rig.container import Container, base_tree
from tests.rig.release_cache import release_cache

pytestmark = [pytest.mark.root, pytest.mark.timeout(3600)]
RELEASE = "2026.2.2"
_REAL_DISK = bool(os.environ.get("LEVIER_BENCH_DISK"))
COUNTS = (1, 10, 50) if _REAL_DISK else (1, 10)
"""Fifty hosts keep what they fetched, and what they unpacked, in more memory than this computer has."""
SERVER, PORT = "10.99.0.1", 8480
_UNPACKED_MIB = 800
_SPARE_MIB = 8192
_MEMORY = "15g"
_FLOOR = (
    "import subprocess, sys, urllib.request, shutil\n"
    "tar = subprocess.Popen(['tar', '-x', '--zstd', '-C', sys.argv[2]], stdin=subprocess.PIPE)\n"
    "shutil.copyfileobj(urllib.request.urlopen(sys.argv[1]), tar.stdin, 1 << 20)\n"
    "tar.stdin.close()\n"
    "sys.exit(tar.wait() or subprocess.call(['sync', '--file-system', sys.argv[2]]))\n"
)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return build_bundle(read_release(shipped_directory() / RELEASE), "debian-12", release_cache(), print)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory on a disk of its own in memory, or on a real one, gone afterwards."""
    path = Path(tempfile.mkdtemp(prefix="levier-bench-", dir="/var/tmp"))
    path.chmod(0o755)
    if _REAL_DISK:
        yield path
        shutil.rmtree(path)
        return
    memory, disk = path / "memory", path / "disk"
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, path)
        for directory in (memory, disk):
            directory.mkdir()
        _run("mount", "-t", "tmpfs", "-o", f"size={_MEMORY}", "levier-bench", str(memory))
        stack.callback(_run, "umount", str(memory))
        _run("truncate", "--size", f"{max(COUNTS) * 2 * _UNPACKED_MIB + _SPARE_MIB}M", str(memory / "disk"))
        _run("mkfs.btrfs", "-q", "-m", "single", "-d", "single", str(memory / "disk"))
        _run("mount", "-o", "loop,compress=zstd:1,noatime", str(memory / "disk"), str(disk))
        stack.callback(_run, "umount", str(disk))
        yield disk


@contextmanager
def bridge() -> Iterator[str]:
    """A network namespace with a bridge, where the boot service listens."""
    name = f"lvb-{os.getpid()}"
    _run("ip", "netns", "add", name)
    try:
        for words in ("link add br0 type bridge", "link set br0 up", f"addr add {SERVER}/16 dev br0", "link set lo up"):
            _run("ip", "-n", name, *words.split())
        yield name
    finally:
        _run("ip", "netns", "del", name)


@contextmanager
def boot_service(namespace: str, place: Path) -> Iterator[None]:
    """The real one, as a process of its own."""
    state = place / "state"
    state.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "LEVIER_STATE_DIR": str(state),
        "LEVIER_RELEASE_CACHE": str(release_cache()),
        "LEVIER_BOOT_PORT": str(PORT),
        "LEVIER_BUILD_RAMDISK": "no",
    }
    command = ["ip", "netns", "exec", namespace, sys.executable, "-m", "levier.api.boot", "--state-dir", str(state)]
    process = subprocess.Popen(command, env=environment)
    try:
        probe = ["ip", "netns", "exec", namespace, "curl", "-fsS", "-o", "/dev/null", "--retry", "60"]
        _run(*probe, "--retry-connrefused", "--retry-delay", "1", f"http://{SERVER}:{PORT}/boot.ipxe", timeout_s=90)
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def hosts(count: int, base: Path, namespace: str, place: Path) -> Iterator[list[RemoteHost]]:
    """That many containers on the bridge, and their SSH."""
    with ExitStack() as stack:
        raise_inotify_limit(place.name, nodes=count)
        stack.callback(restore_inotify_limit, place.name)
        made = []
        for number in range(count):
            directory = place / f"host-{number}"
            directory.mkdir()
            stack.callback(shutil.rmtree, directory)
            container = Container(base, directory)
            stack.callback(container.stop)
            made.append(container)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda each: each.start(), made))
        for number, container in enumerate(made):
            _join(container.name, f"10.99.{1 + number // 250}.{1 + number % 250}", namespace, f"v{number}")
        reached = [open_host(container.target()) for container in made]
        for each in reached:
            stack.callback(each.close)
        yield reached


def _join(name: str, address: str, namespace: str, port: str) -> None:
    _run(*f"ip link add eth0 netns {name} type veth peer name {port} netns {namespace}".split())
    _run(*f"ip -n {namespace} link set {port} master br0 up".split())
    _run(*f"ip -n {name} addr add {address}/16 dev eth0".split())
    _run(*f"ip -n {name} link set eth0 up".split())


@pytest.mark.parametrize("count", COUNTS)
def test_bench_delivery(count: int, bundle: Bundle, place: Path) -> None:
    free_mib = shutil.disk_usage(place).free >> 20
    needed_mib = count * _UNPACKED_MIB + _SPARE_MIB
    assert free_mib > needed_mib, f"{count} hosts need {needed_mib} MiB on disk, {free_mib} are free"
    base = base_tree("bookworm", extra=(*UNPACKING, *bundle.manifest.os_packages))
    url = f"http://{SERVER}:{PORT}/bundles/{bundle.manifest.sha256}"
    with bridge() as namespace, boot_service(namespace, place), hosts(count, base, namespace, place) as reached:
        floors_s = [_floor_of(reached, url)]
        if not _REAL_DISK:
            # What was removed is memory again before the next.
            _run("fstrim", str(place), timeout_s=300)
        ours_s = _at_once(reached, lambda host: ensure_unpacked(host, bundle.manifest, url, timeout_s=1800))
        if _REAL_DISK:
            _at_once(reached, lambda host: ensure_absent(host, bundle.manifest.identity))
            floors_s.append(_floor_of(reached, url))
    floor_s = sum(floors_s) / len(floors_s)
    fetched_mib, unpacked_mib = bundle.manifest.size_bytes / 2**20, bundle.manifest.unpacked_bytes / 2**20
    floors = " and ".join(f"{each:.1f} s" for each in floors_s)
    print(
        f"\ndelivery of {RELEASE} to {count} hosts at once: {ours_s:.1f} s, floor {floors},"
        f" ratio {ours_s / floor_s:.2f}; {count * fetched_mib / ours_s:.0f} MiB/s fetched,"
        f" {count * unpacked_mib / ours_s:.0f} MiB/s written"
    )


def _floor_of(reached: Sequence[RemoteHost], url: str) -> float:
    """Seconds for the least that the work can take; it leaves nothing."""
    floor_s = _at_once(reached, lambda host: host.run(_floor(url), timeout_s=1800))
    _at_once(reached, lambda host: host.run("rm -rf /srv/floor && sync", timeout_s=900))
    return floor_s


def _floor(url: str) -> str:
    return f"mkdir -p /srv/floor && exec python3 -c \"$(cat <<'E'\n{_FLOOR}E\n)\" {url} /srv/floor"


def _at_once(reached: Sequence[RemoteHost], work: Callable[[RemoteHost], object]) -> float:
    """Seconds until all of them are done."""
    began = time.monotonic()
    with ThreadPoolExecutor(len(reached)) as pool:
        list(pool.map(work, reached))
    return time.monotonic() - began


def _run(*argv: str, timeout_s: float = 60) -> None:
    subprocess.run(argv, check=True, capture_output=True, timeout=timeout_s)
