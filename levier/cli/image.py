"""`levier image …`: operating-system images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from levier.cli.client import connect
from levier.cli.output import console, show_json, show_rows
from levier.cli.polling import poll
from levier.domain.errors import LevierError

app = typer.Typer(help="Operating-system images.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def build(
    name: Annotated[
        str, typer.Argument(help="debian-12, debian-13, a name whose `os` the site file tells, or smoke-guest")
    ],
    kernel: Annotated[str, typer.Option(help="generic (all drivers) or cloud (virtual machines only)")] = "generic",
    with_packages: Annotated[
        bool, typer.Option("--with-packages", help="With everything an installation gives the nodes with this image.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Build an image from the distribution's packages; a current one is kept."""
    api = connect()
    api.post("/images", {"name": name, "kernel": kernel, "with_packages": with_packages})
    seen = 0

    def ended() -> dict[str, Any] | None:
        nonlocal seen
        answer: dict[str, Any] = api.get(f"/images/builds/{name}", since=seen)
        if not as_json:
            for line in answer["lines"]:
                console.print(line, highlight=False)
        seen += len(answer["lines"])
        return answer if answer["state"] != "running" else None

    try:
        answer = poll(ended, interval_s=0.5)
    except KeyboardInterrupt:
        console.print(f"\nDetached: the build goes on in the server. Watch it with `levier image build {name}`.")
        raise typer.Exit(130) from None
    if answer["state"] == "failed":
        raise LevierError(f"the build of {name} failed: {answer['error']}", hint=answer.get("hint", ""))
    if as_json:
        show_json(answer["image"])


@app.command("import")
def take_in(
    name: Annotated[str, typer.Argument(help="Name under which the site file asks for it.")],
    file: Annotated[Path, typer.Argument(help="A raw disk with a GPT, compressed by zstd.")],
    sha256: Annotated[str, typer.Option(help="Refuse a file with another digest.")] = "",
    as_json: Json = False,
) -> None:
    """Bring an image of your own: checked, and kept as the newest of its name."""
    image = connect().send_file(f"/images/{name}/content", file, sha256=sha256)
    if as_json:
        show_json(image)
    else:
        console.print(f"{name}: {image['raw_size_mib']} MiB on the disk, SHA-256 {image['sha256']}", highlight=False)


@app.command("list")
def images(as_json: Json = False) -> None:
    """List all built images with size and SHA-256."""
    show_rows(
        connect().get("/images"), ("name", "kernel", "size_mib", "raw_size_mib", "built", "sha256"), as_json=as_json
    )
