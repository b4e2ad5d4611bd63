"""`levier config …`: the configuration of hosts."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from levier.cli.client import connect
from levier.cli.output import console, say, show_json, table_of

app = typer.Typer(help="The rendered configuration of hosts.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def show(
    host: str,
    component: Annotated[str | None, typer.Argument(help="Only this component, with all its files.")] = None,
    revision: Annotated[int | None, typer.Option(help="Of this configuration revision, not of the newest.")] = None,
    as_json: Json = False,
) -> None:
    """Show what Levier writes to a host: the list of its files, or those of COMPONENT in full; secrets are masked."""
    wanted = {"component": component, "revision": revision}
    answer = connect().get(f"/hosts/{host}/configuration", **{k: v for k, v in wanted.items() if v is not None})
    if as_json:
        show_json(answer)
    elif component is None:
        _overview(answer)
    else:
        _in_full(answer["components"][0])


def _overview(answer: dict[str, Any]) -> None:
    rows = [
        {"component": each["component"], **file, "owner": f"{file['owner']}:{file['group']}"}
        for each in answer["components"]
        for file in each["files"]
    ]
    console.print(
        table_of(rows, ("component", "path", "mode", "owner"), title=f"{answer['host']}, revision {answer['revision']}")
    )


def _in_full(shown: dict[str, Any]) -> None:
    rows = [{"setting": name, **each} for name, each in shown["settings"].items()]
    if rows:
        console.print(table_of(rows, ("setting", "value", "from")))
    for file in shown["files"]:
        say(Text(f"\n── {file['path']} ({file['owner']}:{file['group']} {file['mode']})", style="bold"))
        say(file["content"].rstrip("\n"))
