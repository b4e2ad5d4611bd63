"""`levier ramdisk …`: the deploy ramdisk that nodes are booted with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from levier.cli.client import connect
from levier.cli.output import console, show_json, show_rows

app = typer.Typer(help="The deploy ramdisk.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("import")
def take_in(
    file: Annotated[Path, typer.Argument(help="A bundle of `levier ramdisk export`.")], as_json: Json = False
) -> None:
    """Serve a ramdisk that was built on another machine."""
    ramdisk = connect().send_file("/ramdisks", file)
    if as_json:
        show_json(ramdisk)
    else:
        console.print(
            f"kernel {ramdisk['kernel']}, ramdisk {ramdisk['size_mib']} MiB, SHA-256 {ramdisk['sha256']}",
            highlight=False,
        )


@app.command()
def export(file: Annotated[Path, typer.Argument(help="Where the bundle goes.")]) -> None:
    """Write the ramdisk that is served into one file, for another installation."""
    connect().receive_file("/ramdisks/bundle", file)
    console.print(f"{file}: {file.stat().st_size / 2**20:.1f} MiB", highlight=False)


@app.command("list")
def ramdisks(as_json: Json = False) -> None:
    """List all deploy ramdisks; the first one is served."""
    show_rows(
        connect().get("/ramdisks"), ("kernel", "drivers", "size_mib", "origin", "since", "sha256"), as_json=as_json
    )
