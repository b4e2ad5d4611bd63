"""`levier demo`: the main jobs on a virtual rack."""

from __future__ import annotations

import os
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from levier.cli.output import console
from levier.demo.cloud import CloudScenario
from levier.demo.scenario import DemoOptions, Scenario
from levier.domain.errors import InvalidRequest, LevierError
from levier.lab.machine_options import FORM
from levier.lab.spec import ChassisKind


class Scene(StrEnum):
    """What is shown."""

    HOSTS = "hosts"
    CLOUD = "cloud"


SCENES: dict[Scene, type[Scenario]] = {Scene.HOSTS: Scenario, Scene.CLOUD: CloudScenario}


def demo(
    scene: Annotated[
        Scene, typer.Option(help="hosts: power-off to verified SSH hosts; cloud: power-off to a running OpenStack")
    ] = Scene.HOSTS,
    chassis: Annotated[
        ChassisKind | None,
        typer.Option(
            help="qemu: real firmware, emulated (scene hosts without this); nspawn: native speed (scene cloud); "
            "stub: without root"
        ),
    ] = None,
    machine: Annotated[
        list[str] | None,
        typer.Option(metavar=FORM, help="What one machine has that the others have not; as `levier lab up` takes it."),
    ] = None,
    uefi: Annotated[bool, typer.Option("--uefi", help="Boot by UEFI instead of BIOS (chassis qemu).")] = False,
    nodes: Annotated[int, typer.Option(min=1, max=50, help="Machines in the rack.")] = 3,
    image: Annotated[str, typer.Option(help="debian-12 or debian-13; stub brings its own")] = "debian-12",
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running at the end.")] = False,
    name: Annotated[str, typer.Option(help="Name of the lab.")] = "demo",
) -> None:
    """Show a main job on a virtual rack: from powered off to verified hosts, or to a cloud, and rolled back again."""
    if chassis is None:
        chassis = ChassisKind.NSPAWN if scene is Scene.CLOUD else ChassisKind.QEMU
    _check(scene, chassis, nodes)
    options = DemoOptions(chassis, "uefi" if uefi else "bios", nodes, image, keep, name, tuple(machine or ()))
    state_dir = Path(tempfile.mkdtemp(prefix="levier-demo-", dir="/var/tmp"))
    state_dir.chmod(0o711)  # dnsmasq drops its privileges and still reads below it
    scenario = SCENES[scene](options, state_dir)
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


def _check(scene: Scene, chassis: ChassisKind, nodes: int) -> None:
    """Raises InvalidRequest when the demonstration cannot be, before anything is touched."""
    if scene is Scene.CLOUD and (chassis is ChassisKind.STUB or nodes < _CLOUD_NODES):
        raise InvalidRequest(
            "a cloud needs machines that run an operating system: a controller and two compute hosts",
            hint="take --chassis nspawn or qemu, and three nodes or more",
        )
    if chassis is not ChassisKind.STUB and os.geteuid() != 0:
        raise InvalidRequest(
            "the demonstration makes network namespaces and virtual machines",
            hint="run it as root, or take --chassis stub, which needs no root",
        )


_CLOUD_NODES = 3
