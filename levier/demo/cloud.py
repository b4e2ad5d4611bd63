"""The demonstration of an installation: a virtual rack from powered off to a cloud whose servers answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from levier.cli.output import console
from levier.demo import checks, report
from levier.demo.cloud_site import RELEASE, write_cloud_site
from levier.demo.scenario import Scenario


class CloudScenario(Scenario):
    """Power-off to a running OpenStack, and back."""

    kind = "install"

    def _start_levier(self, lab: dict[str, Any]) -> None:
        super()._start_levier(lab)
        self._shell.run("release", "build", RELEASE, "--image", self._options.image)

    def _site_file(self, lab: dict[str, Any]) -> Path:
        """The lab's site file does not say what is to run: that is the operator's."""
        target = self._state_dir / "site.yaml"
        added = write_cloud_site(Path(lab["site_file"]), target)
        console.print("The lab's site file, and this, which makes a cloud of its machines:", highlight=False)
        console.print(added, highlight=False, markup=False)
        return target

    def _show_outcome(self) -> None:
        operation = self._shell.query("operation", "show", self._operation)
        nodes = self._shell.query("node", "list")
        self._require("the cloud", checks.in_service(self._lab(), nodes) + checks.servers_answered(operation))
        console.print(report.stages(operation))
        console.print(f"Prefect UI: {operation['ui']}", highlight=False, soft_wrap=True)
        self._use()

    def _use(self) -> None:
        """The operator's own login works, by the public endpoints and their certificate."""
        lab = self._lab()
        self._shell.run("cloud", "access", "--directory", str(self._state_dir), "--name", self._options.name)
        self._shell.openstack(
            *("--os-cloud", self._options.name, "hypervisor", "list"),
            namespace=str(lab["netns"]),
            directory=self._state_dir,
        )
