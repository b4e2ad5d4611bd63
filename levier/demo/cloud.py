"""The demonstration of an installation: a virtual rack from powered off to a cloud whose servers answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from levier.cli.output import console
from levier.demo import checks, report
from levier.demo.cloud_site import RELEASE, write_cloud_site
from levier.demo.scenario import Scenario
from levier.demo.shell import openstack_line


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

    def leave(self) -> None:
        """Everything stays; how to look at it, to end it and to use the cloud was said, that last."""
        super().leave()
        console.print("Use the cloud, from any directory, as root:")
        self._say_how_to_use()

    def _use(self) -> None:
        """The operator's own login works, by the public endpoints and their certificate."""
        lab = self._lab()
        self._shell.run("cloud", "access", "--directory", str(self._state_dir), "--name", self._options.name)
        self._shell.openstack(
            *("--os-cloud", self._options.name, "hypervisor", "list"),
            namespace=str(lab["netns"]),
            directory=self._state_dir,
        )
        if not self._options.keep:
            console.print(f"{self._state_dir}/clouds.yaml is the way in, by such commands as:", highlight=False)
            self._say_how_to_use()
            console.print("The cloud is taken down now; with KEEP=1 (levier demo --keep) it stays.", highlight=False)

    def _say_how_to_use(self) -> None:
        words = ("--os-cloud", self._options.name, "server", "list", "--all-projects")
        line = openstack_line(*words, namespace=str(self._lab()["netns"]), directory=self._state_dir)
        # In one piece, so that it can be copied.
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
