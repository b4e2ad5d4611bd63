"""The demonstration's acts: a virtual rack from powered off to verified hosts, and back."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from levier.cli.output import console
from levier.demo import checks, report
from levier.demo.shell import Shell
from levier.domain.errors import LevierError
from levier.lab.spec import ChassisKind


class DemoFailed(LevierError):
    """Something that the demonstration shows was not borne out by the lab's ledger."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What kind of demonstration is wanted."""

    chassis: ChassisKind
    firmware: str
    nodes: int
    image: str
    keep: bool
    name: str
    machines: tuple[str, ...] = ()
    """What single machines have that the others have not, as `levier lab up --machine` takes it."""


class Scenario:
    """The demonstration's acts, in order."""

    kind = "expand"
    """The operation that it shows."""

    def __init__(self, options: DemoOptions, state_dir: Path) -> None:
        self._options = options
        self._state_dir = state_dir
        stub = options.chassis is ChassisKind.STUB
        # What a stub rack brings along is for no other rack.
        cache = {"LEVIER_IMAGE_CACHE": str(state_dir / "images")} if stub else _caches()
        self._shell = Shell({**cache, "LEVIER_STATE_DIR": str(state_dir)})
        self._operation = ""

    def forward(self) -> None:
        """The rack's nodes are hosts. Raises DemoFailed when the ledger says otherwise."""
        options, shell = self._options, self._shell
        shell.run(
            *("lab", "up", "--name", options.name, "--chassis", options.chassis.value),
            *("--nodes", str(options.nodes), "--firmware", options.firmware, *self._image_option()),
            *(word for machine in options.machines for word in ("--machine", machine)),
        )
        lab = self._lab()
        self._require("the rack before", checks.powered_off(lab))
        self._start_levier(lab)
        for name, values in json.loads(Path(lab["credentials_file"]).read_text()).items():
            shell.run("secret", "set", name, "--stdin-json", stdin=json.dumps(values))
        site_file = self._site_file(lab)
        shell.run("site", "validate", str(site_file))
        shell.run("site", "apply", str(site_file))
        shell.run("node", "list")
        status = shell.run(self.kind, check=False)
        self._operation = shell.query("operation", "list")[-1]["id"]
        if status != 0:
            shell.run("operation", "show", self._operation, check=False)
            raise DemoFailed(f"operation {self._operation} did not succeed", hint="its steps are shown above")
        self._show_outcome()

    def _site_file(self, lab: dict[str, Any]) -> Path:
        return Path(lab["site_file"])

    def _image_option(self) -> tuple[str, ...]:
        return () if self._options.chassis is ChassisKind.STUB else ("--image", self._options.image)

    def _start_levier(self, lab: dict[str, Any]) -> None:
        """Levier runs beside the rack and has what its nodes are booted with and written."""
        shell = self._shell
        if self._options.chassis is ChassisKind.STUB:
            shell.run("up", "--detach", "--no-build-ramdisk")
            shell.run("ramdisk", "import", str(lab["ramdisk_file"]))
            shell.run("image", "import", str(lab["image"]), str(lab["image_file"]))
        else:
            shell.run("up", "--detach", "--netns", str(lab["netns"]))
            shell.run("image", "build", self._options.image, "--kernel", "cloud")

    def back(self) -> None:
        """The operation is rolled back. Raises DemoFailed when the ledger says otherwise."""
        shell = self._shell
        shell.run("rollback", self._operation)
        shell.run("boot-entry", "list")
        shell.run("address", "list")
        lab, entries, addresses = self._lab(), shell.query("boot-entry", "list"), shell.query("address", "list")
        self._require("after the rollback", checks.taken_back(lab, entries, addresses))

    def leave(self) -> None:
        """Everything stays; how to look at it and how to end it was said."""
        console.print("Left running. Look at it, and end it, with:")
        console.print(f"  export LEVIER_STATE_DIR={self._state_dir}", highlight=False)
        for line in (
            "levier node list",
            f"levier operation show {self._operation}",
            f"levier rollback {self._operation}",
        ):
            console.print(f"  {line}", highlight=False)
        console.print(f"  levier down; levier lab down --name {self._options.name}", highlight=False)

    def stop(self) -> None:
        """Nothing that the demonstration started is left. Safe to repeat."""
        self._shell.run("down", check=False)
        self._shell.run("lab", "down", "--name", self._options.name, check=False)
        shutil.rmtree(self._state_dir, ignore_errors=True)

    def _show_outcome(self) -> None:
        nodes = self._shell.query("node", "list")
        operation = self._shell.query("operation", "show", self._operation)
        events = self._shell.query("lab", "events", "--name", self._options.name)
        self._require("the hosts", checks.deployed(self._lab(), events, nodes))
        console.print(report.hosts(nodes, operation))
        console.print(f"Prefect UI: {operation['ui']}", highlight=False, soft_wrap=True)

    def _lab(self) -> dict[str, Any]:
        answer: dict[str, Any] = self._shell.query("lab", "status", "--name", self._options.name)
        return answer

    @staticmethod
    def _require(title: str, found: list[checks.Check]) -> None:
        if not report.show_checks(title, found):
            raise DemoFailed(f"{title}: the lab's ledger does not bear everything out", hint="see the table above")


def _caches() -> dict[str, str]:
    """Images and bundles are kept between demonstrations, beside those of the tests."""
    home = Path(os.environ.get("LEVIER_TEST_CACHE", str(Path.home() / ".cache" / "levier")))
    places = {"LEVIER_IMAGE_CACHE": home / "images", "LEVIER_RELEASE_CACHE": home / "releases"}
    return {name: os.environ.get(name, str(place)) for name, place in places.items()}
