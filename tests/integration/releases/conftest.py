"""An installation with small releases, its boot service, and a host; started once for all tests here."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn

from drivers.bundle import Bundle
from levier.api.app import create_app
from levier.api.boot_app import create_boot_app
from levier.api.boot_server import boot_server
from levier.bootstrap import ensure_token, wire
from levier.services.boot_files import boot_services
from levier.services.settings import Settings
from tests.integration.prefect_server import free_port
from tests.rig.chroot_host import ChrootHost, chroot_host
from tests.rig.release_cache import DEFINITIONS, shared_bundle


@dataclass(frozen=True, slots=True)
class Installation:
    """A Levier with its two servers."""

    settings: Settings

    @property
    def boot_url(self) -> str:
        """Where hosts reach it."""
        return f"http://127.0.0.1:{self.settings.boot_port}"

    def bundle_url(self, bundle: Bundle) -> str:
        """Where a host gets the bundle."""
        return f"{self.boot_url}/bundles/{bundle.manifest.sha256}"


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    return shared_bundle()


@pytest.fixture(scope="session")
def later_bundle() -> Bundle:
    return shared_bundle(2)


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    directory = tmp_path_factory.mktemp("installation")
    api_port = free_port()
    settings = Settings(
        state_dir=directory / "state",
        database_url=f"sqlite:///{directory / 'levier.db'}",
        api_url=f"http://127.0.0.1:{api_port}",
        prefect_api_url="http://127.0.0.1:1/api",
        boot_port=free_port(),
        image_cache=directory / "images",
        build_ramdisk=False,
        release_cache=directory / "releases",
    )
    settings.bundle_cache.mkdir(parents=True)
    settings.state_dir.mkdir()
    settings.release_definitions.symlink_to(DEFINITIONS)
    services = wire(settings)
    api = uvicorn.Server(
        uvicorn.Config(
            create_app(services, token=ensure_token(settings.token_file)), port=api_port, log_level="warning"
        )
    )
    boot_app = create_boot_app(boot_services(settings, services.boot_agents))
    boot = boot_server(boot_app, host="127.0.0.1", port=settings.boot_port)
    threads = [threading.Thread(target=server.run) for server in (api, boot)]
    for thread, server in zip(threads, (api, boot), strict=True):
        thread.start()
        while not server.started:
            thread.join(0.01)
            assert thread.is_alive()
    try:
        yield Installation(settings)
    finally:
        for server in (api, boot):
            server.should_exit = True
        for thread in threads:
            thread.join(timeout=20)


@pytest.fixture(scope="session")
def served(installation: Installation, bundle: Bundle, later_bundle: Bundle) -> Installation:
    """The installation has both bundles, each a copy that tests may damage."""
    for each in (bundle, later_bundle):
        place(installation, each)
    return installation


def place(installation: Installation, bundle: Bundle) -> Path:
    """A copy of the bundle is on the installation's shelf; where its archive lies."""
    shelf = installation.settings.bundle_cache / bundle.path.parent.parent.name / bundle.path.parent.name
    shelf.mkdir(parents=True, exist_ok=True)
    for file in bundle.path.parent.iterdir():
        (shelf / file.name).write_bytes(file.read_bytes())
    return shelf / bundle.path.name


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChrootHost]:
    with chroot_host(tmp_path_factory.mktemp("sshd")) as made:
        yield made
