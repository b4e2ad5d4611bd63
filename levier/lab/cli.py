"""`levier lab`: the virtual rack on the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from levier.domain.bmc import Firmware
from levier.domain.errors import NotFound
from levier.lab import fault_cli
from levier.lab.ledger import Event
from levier.lab.machine_options import FORM, machine_differences
from levier.lab.options import Dir, Json, Name, errors
from levier.lab.packages.upstream import SECURITY, discover_upstreams
from levier.lab.rack import Rack
from levier.lab.spec import (
    BOOT_PORT,
    MIXED,
    STUB_BMC_PORT,
    STUB_SSH_PORT,
    ChassisKind,
    MirrorSpec,
    Ports,
    RackSpec,
    plan_rack,
)
from levier.lab.sysctl import inotify_limit

app = typer.Typer(name="lab", help="The virtual rack: machines with real BMCs on this computer.", no_args_is_help=True)
app.add_typer(fault_cli.app)


@contextmanager
def _telling_sysctl() -> Iterator[None]:
    """A change of this computer's kernel settings is told; `levier lab down` of the last lab puts it back."""
    before = inotify_limit()
    yield
    if (after := inotify_limit()) != before:
        typer.echo(f"sysctl fs.inotify.max_user_instances: {before} -> {after}")


@app.command()
def up(
    chassis: Annotated[ChassisKind, typer.Option(help="What stands behind the BMCs.")] = ChassisKind.QEMU,
    nodes: Annotated[int, typer.Option(help="How many machines.")] = 3,
    firmware: Annotated[Firmware, typer.Option(help="The machines' firmware.")] = Firmware.BIOS,
    memory_mib: Annotated[
        int | None, typer.Option(help="Memory of a machine (chassis qemu) [default: 512, UEFI 768].")
    ] = None,
    cpus: Annotated[int, typer.Option(help="Processors of a machine (chassis qemu).")] = 1,
    disk_gib: Annotated[int, typer.Option(help="Size of a machine's (sparse) disk.")] = 8,
    machine: Annotated[
        list[str] | None,
        typer.Option(
            metavar=FORM,
            help="What one machine has that the others have not: chassis, memory-mib, cpus, disk-gib; repeatable. "
            "qemu and nspawn machines can stand in one rack: --machine b1-01:chassis=qemu,memory-mib=3072.",
        ),
    ] = None,
    image: Annotated[
        str, typer.Option(help="Image that the site file asks for [default: debian-12, stub levier-stub].")
    ] = "",
    bmc_port: Annotated[
        int, typer.Option(envvar="LEVIER_LAB_BMC_PORT", help="UDP port of the BMCs (chassis stub).")
    ] = STUB_BMC_PORT,
    ssh_port: Annotated[
        int, typer.Option(envvar="LEVIER_LAB_SSH_PORT", help="TCP port of the machines' SSH servers (chassis stub).")
    ] = STUB_SSH_PORT,
    boot_port: Annotated[
        int, typer.Option(envvar="LEVIER_BOOT_PORT", help="Port of Levier's boot service (chassis stub).")
    ] = BOOT_PORT,
    packages: Annotated[
        bool | None,
        typer.Option(
            "--packages/--no-packages",
            help="Offer the machines a package mirror, which fetches from where this computer's apt does "
            "[default: where that is Debian, not for the chassis stub].",
        ),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Take an earlier lab of this name down first.")] = False,
    name: Name = "demo",
    directory: Dir = None,
) -> None:
    """Bring a rack of powered-off machines up."""
    with errors():
        spec = plan_rack(
            name=name,
            chassis=chassis,
            nodes=nodes,
            firmware=firmware,
            memory_mib=memory_mib,
            cpus=cpus,
            disk_gib=disk_gib,
            image=image,
            ports=Ports(bmc_port, ssh_port, boot_port) if chassis is ChassisKind.STUB else None,
            mirror=_mirror(packages, chassis),
            machines=machine_differences(machine or ()),
        )
        rack = Rack.at(name=name, directory=directory)
        with _telling_sysctl():
            rack.up(spec, replace=replace)
        _print_status(rack.status())
        _print_next(spec)


@app.command()
def status(name: Name = "demo", directory: Dir = None, as_json: Json = False) -> None:
    """Tell what every machine really does, whatever an orchestrator believes."""
    with errors():
        found = Rack.at(name=name, directory=directory).status()
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        _print_status(found)


@app.command()
def events(
    node: Annotated[str | None, typer.Option(help="Only this node's.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only this kind, for instance `boot` or `bmc-command`.")] = None,
    since: Annotated[int, typer.Option(help="Only after this sequence number.")] = 0,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what happens, until Ctrl-C.")] = False,
    name: Name = "demo",
    directory: Dir = None,
    as_json: Json = False,
) -> None:
    """Print the ledger: every BMC command, power change, boot and disk write. With --json a list; with
    --follow as well, one object a line."""
    with errors():
        rack = Rack.at(name=name, directory=directory)
        if as_json and not follow:
            typer.echo(
                json.dumps([asdict(event) for event in rack.events(node=node, kind=kind, since=since)], indent=1)
            )
            return
        found = rack.follow if follow else rack.events
        try:
            for event in found(node=node, kind=kind, since=since):
                typer.echo(event.to_json() if as_json else _event_line(event))
        except KeyboardInterrupt:
            return


@app.command()
def down(
    name: Name = "demo",
    directory: Dir = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the ledger and the logs.")] = False,
) -> None:
    """Take the lab down and leave nothing behind, also after its daemon was killed."""
    with errors():
        rack = Rack.at(name=name, directory=directory)
        with _telling_sysctl():
            there = rack.down(keep=keep)
    typer.echo(f"lab {rack.name}: down" if there else f"lab {rack.name}: was not up")


def _mirror(wanted: bool | None, chassis: ChassisKind) -> MirrorSpec | None:
    """The package mirror of a lab. Raises NotFound when one is wanted and this computer knows no archive."""
    if wanted is False or (wanted is None and chassis is ChassisKind.STUB):
        return None
    try:
        found = discover_upstreams()
    except NotFound as error:
        if wanted:
            raise
        typer.echo(f"no package mirror: {error}", err=True)
        return None
    return MirrorSpec(security=SECURITY in found.archives, check_valid_until=found.check_valid_until)


def _print_next(spec: RackSpec) -> None:
    """What an operator does next with this kind of rack."""
    if spec.namespace:
        typer.echo(f"\nrun a command beside the rack:  ip netns exec {spec.namespace} COMMAND")
    else:
        typer.echo(f"\nwhat Levier needs:  levier ramdisk import RAMDISK; levier image import {spec.image} IMAGE")


def _event_line(event: Event) -> str:
    detail = " ".join(f"{key}={value}" for key, value in event.detail.items())
    return f"{event.seq:6} {event.time} {event.node or '-':8} {event.kind:18} {detail}"


def _print_status(found: dict[str, Any]) -> None:
    for label, key in (
        ("lab", "name"),
        ("daemon", "daemon"),
        ("chassis", "chassis"),
        ("namespace", "netns"),
        ("bridge", "bridge"),
        ("server address", "server_address"),
        ("package mirror", "mirror"),
        ("mirror state", "mirror_state"),
        ("directory", "dir"),
        ("site file", "site_file"),
        ("credentials", "credentials_file"),
        ("image", "image_file"),
        ("ramdisk", "ramdisk_file"),
    ):
        if found[key] is not None:
            typer.echo(f"{label:15} {found[key]}")
    table = Table(box=None, pad_edge=False)
    columns = (
        "name",
        *(("chassis",) if found["chassis"] == MIXED else ()),
        "power",
        "booted_from",
        "boot_device",
        "boots",
        "image_writes",
        "address",
        "serial",
        "bmc_address",
    )
    for column in columns:
        table.add_column(column.replace("_", " "))
    for node in found["nodes"]:
        table.add_row(*("-" if node[column] is None else str(node[column]) for column in columns))
    Console(width=120).print(table)
