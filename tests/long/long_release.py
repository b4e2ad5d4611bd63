"""All of OpenStack: every shipped series built as a bundle, delivered to a host and run there. With figures."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from drivers.bundle import Bundle, build_bundle
from drivers.bundle.host import ensure_current, ensure_unpacked
from levier.domain.ssh import CommandResult
from levier.services.release_catalogue import ReleaseCatalogue, shipped_directory
from tests.integration.prefect_server import free_port
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


_LOAD_ALL = """
import importlib.metadata, os, sys, traceback, warnings
warnings.simplefilter("ignore")
loaded, failed = 0, 0
for name in sys.argv[1:]:
    for entry in importlib.metadata.distribution(name).entry_points:
        if entry.group == "console_scripts":
            child = os.fork()  # each by itself: they patch the standard library in different ways
            if child == 0:
                try:
                    entry.load()
                except BaseException:
                    print(name, entry.name, traceback.format_exc(), flush=True)
                    os._exit(1)
                os._exit(0)
            failed += os.waitpid(child, 0)[1] != 0
            loaded += 1
print(loaded, failed)
"""


def test_every_program_of_the_services_can_be_loaded(host: ChrootHost, delivered: Bundle) -> None:
    """Not all say what they import: with os-vif 5.2 nobody asked for the pyroute2 of neutron 29."""
    services = "keystone glance openstack-placement nova neutron cinder horizon"
    python = f"{delivered.manifest.location}/bin/python"
    output = host.ssh.run(f"{python} - {services}", stdin=_LOAD_ALL.encode(), timeout_s=600).stdout
    loaded, failed = map(int, output.split()[-2:])
    assert failed == 0, output
    assert loaded > 50


def test_an_api_is_served_by_uwsgi(host: ChrootHost, delivered: Bundle) -> None:
    """Placement with a schema of its own in SQLite: uwsgi finds the environment by `--home`."""
    (host.root / "etc/placement").mkdir(exist_ok=True)
    (host.root / "etc/placement/placement.conf").write_text(
        "[placement_database]\nconnection = sqlite:////tmp/placement.db\n[api]\nauth_strategy = noauth2\n"
    )
    place = delivered.manifest.location
    host.ssh.run(f"{place}/bin/placement-manage db sync", timeout_s=120)
    listen, application = f"--http-socket 127.0.0.1:{free_port()}", f"--home {place} --module placement.wsgi.api"
    uwsgi = f"{place}/bin/uwsgi {listen} {application} --master --need-app --die-on-term"
    with ThreadPoolExecutor(1) as pool:
        command = f"echo $$ > /tmp/uwsgi.pid; exec {uwsgi} 2>&1"
        running = pool.submit(host.ssh.run, command, timeout_s=300, check=False)
        try:
            answer = _first_answer(int(listen.rpartition(":")[2]), running)
        finally:
            host.ssh.run("kill -TERM $(cat /tmp/uwsgi.pid)", check=False)
    assert answer["versions"][0]["min_version"] == "1.0"
    assert "goodbye to uWSGI" in running.result().stdout


def _first_answer(port: int, running: Future[CommandResult]) -> dict[str, Any]:
    """What the server says once it is up; why it ended, if it did."""
    while not running.done():
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as response:
                return dict(json.load(response))
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    raise AssertionError(running.result().stdout[-3000:])
