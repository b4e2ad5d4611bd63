"""A rack whose machines become a cloud, as an operator does it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from levier.demo.cloud_site import ADDITIONS, ROLES
from levier.services.secrets import SecretStore
from tests.integration.e2e.installation import BUILD_S, IMAGE, Installation, Site
from tests.integration.e2e.shelf import leave_at
from tests.integration.e2e.terminal import Answer
from tests.rig.release_cache import release_cache, shared_cloud_bundle

CONTROLLER, NEAR, FAR, OWN_KERNEL = "a1-01", "a1-02", "b1-01", "b1-02"
"""The controller, and the compute hosts: NEAR stores volumes too, OWN_KERNEL is an emulated machine, where wanted."""
INSTALL_S = 1500.0
COMPUTE_IMAGE = f"{IMAGE}-compute"
"""The image with everything that a compute host is given: emulated machines take minutes to unpack packages."""
NOT_SHIPPED = Path(__file__).parent / "components"
"""A folder of components that Levier knows nothing of."""


class CloudInstallation(Installation):
    """Three machines, a controller and two compute hosts, and the release that they get.

    With `emulated` there is a third compute host, in QEMU with a kernel of its own; it says what runs servers on it.
    """

    def __init__(self, directory: Path, *, emulated: str | None = None) -> None:
        super().__init__(directory, lab="cloud")
        self.emulated = emulated
        self.machine_names = (CONTROLLER, NEAR, FAR, *([OWN_KERNEL] if emulated else []))
        self.patience_s = 3 * INSTALL_S if emulated else INSTALL_S
        self.releases = directory / "releases"
        self.terminal.environment["LEVIER_RELEASE_CACHE"] = str(self.releases)
        self.terminal.environment["LEVIER_COMPONENT_DIRS"] = str(NOT_SHIPPED)

    def _lab_options(self) -> tuple[str, ...]:
        # One processor: with two, the emulated machine once hung for good in one of five runs.
        machine = f"{OWN_KERNEL}:chassis=qemu,memory-mib=3072,disk-gib=12"
        return (*super()._lab_options(), *(("--machine", machine) if self.emulated else ()))

    def _start_lab(self) -> None:
        super()._start_lab()
        bundle = shared_cloud_bundle(IMAGE)
        # A copy, which tests may spoil.
        shutil.copytree(bundle.path.parent, self.releases / bundle.path.parent.relative_to(release_cache()))

    def _start(self) -> None:
        super()._start()
        if self.emulated:
            build = ("image", "build", COMPUTE_IMAGE, "--kernel", "cloud", "--with-packages")
            self.terminal.ok(*build, timeout_s=BUILD_S)
            leave_at(self._shared_images(), self.images)

    @property
    def bundle(self) -> Path:
        """The file that hosts fetch."""
        (file,) = self.releases.glob("*/*/bundle.tar.zst")
        return file

    def _first_site(self, site: Site) -> Site:
        nodes = [dict(node, roles=list(ROLES[min(n, 2)])) for n, node in enumerate(site["nodes"])]
        controller = {"name": "controller", "also": ["haproxy", "horizon", "notice"]}
        if self.emulated:
            for node in (each for each in nodes if each["name"] in (FAR, OWN_KERNEL)):
                node["image"] = COMPUTE_IMAGE
            nodes[-1]["settings"] = {"nova-compute": {"hypervisor": self.emulated}}
            site = {**site, "images": [*site["images"], {"name": COMPUTE_IMAGE, "os": IMAGE}]}
        return {**site, **ADDITIONS, "roles": [controller], "nodes": nodes}

    # --- installing -------------------------------------------------------------------------------------------------

    def install(self) -> tuple[Answer, dict[str, Any]]:
        """`levier install` ran to its end: what it printed, and the operation."""
        answer = self.terminal.run("install", timeout_s=self.patience_s)
        return answer, self.newest_operation()

    def secrets(self) -> dict[str, str]:
        """Every secret value that Levier holds, by what it is."""
        store = SecretStore(self.state_dir / "secrets")
        return {f"{name} {key}": value for name in store.names() for key, value in store.get(name).items()}

    # --- on the hosts -----------------------------------------------------------------------------------------------

    def on(self, host: str, script: str, *, check: bool = True, stdin: str = "") -> str:
        """What the script printed on the host, by the operator's own SSH key."""
        address = self.nodes()[host]["address"]
        known = self.directory / "known-hosts"
        options = ("-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={known}", "-o", "StrictHostKeyChecking=accept-new")
        enter = ("ip", "netns", "exec", f"levier-{self.lab}", "ssh", "-i", str(self.key), *options, f"root@{address}")
        done = subprocess.run([*enter, script], input=stdin, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0 or not check, f"on {host}: {script}\n{done.stdout[-1000:]}\n{done.stderr[-1000:]}"
        return done.stdout

    def openstack(self, *arguments: str, cloud: str, directory: Path) -> str:
        """What a user's command printed, run in the rack's network."""
        code = "from openstackclient.shell import main; import sys; sys.exit(main(sys.argv[1:]))"
        argv = (self.terminal.argv()[0], "-c", code, "--os-cloud", cloud, *arguments)
        enter = ("ip", "netns", "exec", f"levier-{self.lab}")
        done = subprocess.run(
            [*enter, *argv], cwd=directory, env=os.environ, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, f"openstack {' '.join(arguments)}: {done.stderr[-2000:]}"
        return done.stdout


def step_of(operation: dict[str, Any], step: str, host: str) -> dict[str, Any]:
    """The step as the API shows it."""
    return next(s for s in operation["steps"] if (s["step"], s["target"]) == (step, host))
