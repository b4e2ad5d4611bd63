"""A rack whose machines become a cloud, as an operator does it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from levier.demo.cloud_site import ADDITIONS, ROLES
from levier.services.secrets import SecretStore
from tests.integration.e2e.installation import IMAGE, Installation, Site
from tests.integration.e2e.terminal import Answer
from tests.rig.release_cache import release_cache, shared_cloud_bundle

CONTROLLER, NEAR, FAR = "a1-01", "a1-02", "b1-01"
"""The controller, and the compute hosts: NEAR stores volumes too."""
INSTALL_S = 1500.0
NOT_SHIPPED = Path(__file__).parent / "components"
"""A folder of components that Levier knows nothing of."""


class CloudInstallation(Installation):
    """Three machines, a controller and two compute hosts, and the release that they get."""

    def __init__(self, directory: Path, *, machines: tuple[str, ...] = ()) -> None:
        super().__init__(directory, lab="cloud")
        self.machine_names = (CONTROLLER, NEAR, FAR)
        self._machines = machines
        self.patience_s = 3 * INSTALL_S if machines else INSTALL_S
        self.releases = directory / "releases"
        self.terminal.environment["LEVIER_RELEASE_CACHE"] = str(self.releases)
        self.terminal.environment["LEVIER_COMPONENT_DIRS"] = str(NOT_SHIPPED)

    def _lab_options(self) -> tuple[str, ...]:
        different = (word for machine in self._machines for word in ("--machine", machine))
        return ("--chassis", "nspawn", "--nodes", str(len(self.machine_names)), *different)

    def _start_lab(self) -> None:
        super()._start_lab()
        bundle = shared_cloud_bundle(IMAGE)
        # A copy, which tests may spoil.
        shutil.copytree(bundle.path.parent, self.releases / bundle.path.parent.relative_to(release_cache()))

    @property
    def bundle(self) -> Path:
        """The file that hosts fetch."""
        (file,) = self.releases.glob("*/*/bundle.tar.zst")
        return file

    def _first_site(self, site: Site) -> Site:
        nodes = [dict(node, roles=list(ROLES[min(n, 2)])) for n, node in enumerate(site["nodes"])]
        controller = {"name": "controller", "also": ["haproxy", "horizon", "notice"]}
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
