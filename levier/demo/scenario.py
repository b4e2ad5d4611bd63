"""`levier demo`: a virtual rack from powered off to verified hosts, and back."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from levier.cli.output import console
from levier.demo import checks, report
from levier.demo.shell import Shell
from levier.domain.errors import InvalidRequest, LevierError
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


def demo(
    chassis: Annotated[
        ChassisKind, typer.Option(help="qemu: real firmware, emulated; nspawn: native speed; stub: without root")
    ] = ChassisKind.QEMU,
    uefi: Annotated[bool, typer.Option("--uefi", help="Boot by UEFI instead of BIOS (chassis qemu).")] = False,
    nodes: Annotated[int, typer.Option(min=1, max=50, help="Machines in the rack.")] = 3,
    image: Annotated[str, typer.Option(help="debian-12 or debian-13; stub brings its own")] = "debian-12",
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running at the end.")] = False,
    name: Annotated[str, typer.Option(help="Name of the lab.")] = "demo",
) -> None:
    """Show the main job on a virtual rack: power-off to verified SSH hosts, and rolled back again."""
    if chassis is not ChassisKind.STUB and os.geteuid() != 0:
        raise InvalidRequest(
            "the demonstration makes network namespaces and virtual machines",
            hint="run it as root, or take --chassis stub, which needs no root",
        )
    options = DemoOptions(chassis, "uefi" if uefi else "bios", nodes, image, keep, name)
    state_dir = Path(tempfile.mkdtemp(prefix="levier-demo-", dir="/var/tmp"))
    state_dir.chmod(0o711)  # dnsmasq drops its privileges and still reads below it
    scenario = Scenario(options, state_dir)
    try:
        scenario.forward()
        if options.keep:
            return scenario.leave()
        scenario.back()
    except (KeyboardInterrupt, LevierError):
        scenario.stop()
        raise
    scenario.stop()
    console.print("[bold green]Everything shown was checked against the lab's own ledger.[/]")
    return None


class Scenario:
    """The demonstration's acts, in order."""

    def __init__(self, options: DemoOptions, state_dir: Path) -> None:
        self._options = options
        self._state_dir = state_dir
        stub = options.chassis is ChassisKind.STUB
        # What a stub rack brings along is for no other rack.
        cache = {"LEVIER_IMAGE_CACHE": str(state_dir / "images")} if stub else _image_cache()
        self._shell = Shell({**cache, "LEVIER_STATE_DIR": str(state_dir)})
        self._operation = ""

    def forward(self) -> None:
        """The rack's nodes are hosts. Raises DemoFailed when the ledger says otherwise."""
        options, shell = self._options, self._shell
        shell.run(
            *("lab", "up", "--name", options.name, "--chassis", options.chassis.value),
            *("--nodes", str(options.nodes), "--firmware", options.firmware, *self._image_option()),
        )
        lab = self._lab()
        self._require("the rack before", checks.powered_off(lab))
        self._start_levier(lab)
        for name, values in json.loads(Path(lab["credentials_file"]).read_text()).items():
            shell.run("secret", "set", name, "--stdin-json", stdin=json.dumps(values))
        shell.run("site", "validate", str(lab["site_file"]))
        shell.run("site", "apply", str(lab["site_file"]))
        shell.run("node", "list")
        status = shell.run("expand", check=False)
        self._operation = shell.query("operation", "list")[-1]["id"]
        if status != 0:
            shell.run("operation", "show", self._operation, check=False)
            raise DemoFailed(f"operation {self._operation} did not succeed", hint="its steps are shown above")
        self._show_hosts()

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

    def _show_hosts(self) -> None:
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


def _image_cache() -> dict[str, str]:
    """Images are kept between demonstrations, beside those of the tests."""
    home = os.environ.get("LEVIER_TEST_CACHE", str(Path.home() / ".cache" / "levier"))
    return {"LEVIER_IMAGE_CACHE": os.environ.get("LEVIER_IMAGE_CACHE", str(Path(home) / "images"))}
