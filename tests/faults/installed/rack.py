"""A rack of containers that are ready, and a Levier beside them: its boot service and DHCP in processes, the rest here.

The rack has a network of its own. Whoever works on its machines does so in a thread, or a process, inside of it.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from levier.domain.install_plan import SMOKE_SERVER
from levier.domain.operation import OperationState
from levier.lab.rack import Rack
from levier.services.registry import Services
from levier.services.settings import Settings
from levier.supervisor.lineage import enter_network_namespace
from tests.faults.installed.clouds import CloudLayout
from tests.faults.worker import carry_out, order, services_with
from tests.integration.e2e.terminal import Terminal
from tests.rig.image_cache import image_cache, shared_image, shared_ramdisk
from tests.rig.release_cache import release_cache, shared_cloud_bundle
from tests.rig.smoke_net import shared_guest
from tests.rig.sshd import free_port

IMAGE = "debian-12"
_UP_S = 300.0


class InstalledRack:
    """Hosts on which a cloud can be installed; nothing of it is there yet."""

    def __init__(self, directory: Path, cloud: CloudLayout) -> None:
        self.cloud = cloud
        self.directory = directory
        self.lab = Rack.at(name=f"{cloud.name}-{os.getpid()}", directory=directory / "lab")
        self.settings = Settings(
            state_dir=directory / "state",
            database_url=f"sqlite:///{directory / 'state' / 'levier.db'}",
            api_url="http://127.0.0.1:9",
            prefect_api_url="http://127.0.0.1:9/api",  # the discard port: no orchestrator takes part
            boot_port=free_port(),
            image_cache=image_cache(),
            build_ramdisk=False,
            release_cache=release_cache(),
        )
        self._terminal = Terminal(
            {
                "LEVIER_LAB_DIR": str(directory / "lab"),
                "LEVIER_LAB_PACKAGE_CACHE": str(image_cache().parent / "packages"),
                "LEVIER_STATE_DIR": str(self.settings.state_dir),
                "LEVIER_BOOT_PORT": str(self.settings.boot_port),
                "LEVIER_IMAGE_CACHE": str(self.settings.image_cache),
                "LEVIER_RELEASE_CACHE": str(self.settings.bundle_cache),
            }
        )

    @property
    def namespace(self) -> str:
        """The rack's network."""
        return f"levier-{self.lab.name}"

    def inside(self) -> ThreadPoolExecutor:
        """One thread in the rack's network; threads that it begins are there, too."""
        return ThreadPoolExecutor(1, initializer=enter_network_namespace, initargs=(self.namespace,))

    def start(self) -> None:
        """The hosts are ready."""
        shared_image(IMAGE)
        shared_ramdisk()
        shared_cloud_bundle(IMAGE)
        if SMOKE_SERVER in {step for stage in self.cloud.stages for step, _ in stage.steps}:
            shared_guest()
        machines = ("--chassis", "nspawn", "--nodes", str(len(self.cloud.hosts)))
        self._terminal.ok("lab", "up", "--name", self.lab.name, *machines, "--packages", timeout_s=_UP_S)
        self.settings.state_dir.mkdir(mode=0o711)
        self.services = services_with(self.settings)
        self._supply(self.services)
        only = ("--only", "boot", "--only", "netboot")
        self._terminal.ok("up", "--detach", "--netns", self.namespace, *only, timeout_s=_UP_S)
        with self.inside() as thread:
            thread.submit(self._expand).result()

    def stop(self) -> None:
        """Nothing of it is left."""
        try:
            self._terminal.ok("down")
        finally:
            self.lab.down()

    def _supply(self, services: Services) -> None:
        status = self.lab.status()
        for name, values in json.loads(Path(status["credentials_file"]).read_text()).items():
            services.secrets.set(name, values)
        site = self.cloud.document(Path(status["site_file"]).read_text())
        services.sites.apply(site, "site.yaml", who="test")

    def _expand(self) -> None:
        operation = order(self.services, "expand", [node.name for node in self.cloud.site.nodes])
        settlement = carry_out(self.services, operation, parallel=2)
        assert settlement.state is OperationState.SUCCEEDED, settlement.reason
