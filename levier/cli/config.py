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
    revision: Annotated[int | None, typer.Option(help="What was written with this configuration revision.")] = None,
    as_json: Json = False,
) -> None:
    """Show what Levier writes to a host: the list of its files, or those of COMPONENT in full; secrets are masked.

    Without --revision, and for a revision with which nothing was written: what an installation would write now.
    """
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
        {
            "component": each["component"],
            **file,
            "owner": f"{file['owner']}:{file['group']}",
            "written": _yes_or_no(each["written"]),
        }
        for each in answer["components"]
        for file in each["files"]
    ]
    columns = ("component", "path", "mode", "owner", "written")
    console.print(table_of(rows, columns, title=f"{answer['host']}, revision {answer['revision']}"))


def _in_full(shown: dict[str, Any]) -> None:
    rows = [{"setting": name, **each} for name, each in shown["settings"].items()]
    if rows:
        console.print(table_of(rows, ("setting", "value", "from")))
    say(Text(f"Written so with this revision: {_yes_or_no(shown['written'])}", style="dim"))
    for file in shown["files"]:
        say(Text(f"\n── {file['path']} ({file['owner']}:{file['group']} {file['mode']})", style="bold"))
        say(file["content"].rstrip("\n"))


def _yes_or_no(truth: bool) -> str:
    return "yes" if truth else "no"
