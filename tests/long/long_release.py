"""All of OpenStack: every shipped series built as a bundle, delivered to a host and run there. With figures."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from drivers.bundle import Bundle, build_bundle
from drivers.bundle.host import ensure_current, ensure_unpacked
from levier.services.release_catalogue import ReleaseCatalogue, shipped_directory
from tests.rig.chroot_host import ChrootHost, chroot_host
from tests.rig.cutting_server import cutting_server
from tests.rig.release_cache import release_cache

pytestmark = [pytest.mark.root, pytest.mark.timeout(3600)]

SERIES = ("2026.1", "2026.2")
PROGRAMS = {
    "keystone-manage": "keystone",
    "glance-manage": "glance",
    "placement-manage": "openstack-placement",
    "nova-manage": "nova",
    "cinder-manage": "cinder",
    "openstack": "python-openstackclient",
    "uwsgi": "uwsgi",
}


@pytest.fixture(scope="module", params=SERIES)
def bundle(request: pytest.FixtureRequest) -> Bundle:
    began = time.monotonic()
    release = ReleaseCatalogue(shipped_directory()).get(request.param)
    built = build_bundle(release, "debian-12", release_cache(), print)
    manifest = built.manifest
    print(
        f"\n{manifest.release}: {len(manifest.packages)} packages, {manifest.size_bytes / 2**20:.0f} MiB, unpacked "
        f"{manifest.unpacked_bytes / 2**20:.0f} MiB in {manifest.files} files; {time.monotonic() - began:.0f} s"
    )
    return built


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChrootHost]:
    with chroot_host(tmp_path_factory.mktemp("sshd")) as made:
        yield made


@pytest.fixture(scope="module")
def delivered(host: ChrootHost, bundle: Bundle) -> Bundle:
    with cutting_server(bundle.path) as server:
        delivery = ensure_unpacked(host.ssh, bundle.manifest, f"{server.url}/{bundle.manifest.sha256}")
    print(f"delivered in {delivery.duration_s:.1f} s")
    ensure_current(host.ssh, "all", bundle.manifest.identity)
    return bundle


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_runs_and_is_of_the_version_that_is_locked(host: ChrootHost, delivered: Bundle, program: str) -> None:
    began = time.monotonic()
    result = host.ssh.run(f"/opt/levier/current/all/bin/{program} --version 2>/dev/null", timeout_s=300)
    print(f"{program} --version: {time.monotonic() - began:.1f} s")
    assert result.stdout.split()[-1] == delivered.manifest.packages[PROGRAMS[program]]


def test_what_services_are_made_of_can_be_imported(host: ChrootHost, delivered: Bundle) -> None:
    modules = ("nova.conf", "neutron.plugins.ml2.plugin", "glance.api.v2.router", "cinder.volume.manager", "ovsdbapp")
    imports = "; ".join(f"import {module}" for module in modules)
    host.ssh.run(f"/opt/levier/current/all/bin/python -W ignore -c '{imports}'", timeout_s=300)


def test_an_api_is_served_by_uwsgi(host: ChrootHost, delivered: Bundle) -> None:
    """Placement's version document: no database is needed for it."""
    (host.root / "etc/placement").mkdir(exist_ok=True)
    (host.root / "etc/placement/placement.conf").write_text(
        "[placement_database]\nconnection = sqlite://\n[api]\nauth_strategy = noauth2\n"
    )
    uwsgi = "/opt/levier/current/all/bin/uwsgi --http-socket 127.0.0.1:28778 --master --die-on-term"
    fetch = (
        "import sys,time,urllib.request as u\n"
        "for _ in range(200):\n"
        "    try: print(u.urlopen('http://127.0.0.1:28778/').read().decode()); break\n"
        "    except OSError: time.sleep(0.1)\n"
    )
    served = threading.Event()

    def serve() -> None:
        host.ssh.run(
            f"echo $$ > /tmp/uwsgi.pid; exec {uwsgi} --module placement.wsgi.api 2>/tmp/uwsgi.log",
            timeout_s=120,
            check=False,
        )
        served.set()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        answer = host.ssh.run("python3 -", stdin=fetch.encode(), timeout_s=60).stdout
    finally:
        host.ssh.run("kill -TERM $(cat /tmp/uwsgi.pid)")
        thread.join(timeout=60)
    assert '"min_version": "1.0"' in answer, (host.root / "tmp/uwsgi.log").read_text()[-2000:]
    assert served.is_set()
