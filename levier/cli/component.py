"""`levier component …`: what can be deployed."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from levier.cli.client import connect
from levier.cli.output import console, say, show_json, show_rows, table_of

app = typer.Typer(help="Components: what can be deployed.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def components(as_json: Json = False) -> None:
    """List all components, with the roles whose hosts run them."""
    rows = connect().get("/components")
    show_rows(rows, ("name", "roles", "needs", "summary"), as_json=as_json)


@app.command()
def show(name: str, as_json: Json = False) -> None:
    """Show a component and the settings it has."""
    answer = connect().get(f"/components/{name}")
    if as_json:
        show_json(answer)
        return
    say(f"{answer['name']}: {answer['summary']}")
    for key in ("roles", "needs", "beside", "after"):
        if answer.get(key):
            say(f"  {key}: {', '.join(answer[key])}")
    rows: list[dict[str, Any]] = [{"setting": name, **each} for name, each in answer["settings"].items()]
    if rows:
        console.print(table_of(rows, ("setting", "type", "default", "choices", "description")))


@app.command()
def schema() -> None:
    """Print the JSON Schema of a component.yaml."""
    from levier.domain.component_schema import component_schema

    show_json(component_schema())
