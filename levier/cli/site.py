"""`levier site …`: the site file and its revisions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from levier.cli.client import connect
from levier.cli.output import console, show_json, show_rows
from levier.domain.errors import InvalidRequest
from levier.domain.problems import render_problems
from levier.services.sitefile import SiteFileInvalid, load_site, unmet_needs

app = typer.Typer(help="Site file and configuration revisions.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _read(path: Path) -> str:
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path} is not UTF-8 text: {error}") from error


@app.command()
def validate(file: Path, as_json: Json = False) -> None:
    """Check a site file; every error is shown with line, path and what would be right. Nothing is stored."""
    try:
        document = load_site(_read(file), str(file))
    except SiteFileInvalid as invalid:
        if as_json:
            show_json({"valid": False, "problems": [p.model_dump(mode="json") for p in invalid.problems]})
        else:
            print(render_problems(invalid.problems, str(file)), file=sys.stderr)
        raise typer.Exit(1) from invalid
    site, unmet = document.site, unmet_needs(document.site)
    if as_json:
        about = {"site": site.site.name, "nodes": len(site.nodes), "digest": document.digest}
        show_json({"valid": True, **about, "unmet": unmet})
        return
    console.print(f"{file}: correct. Site {site.site.name}, {len(site.zones)} zones, {len(site.nodes)} nodes.")
    if unmet:
        console.print("levier install would refuse it, for it cannot work as a cloud:")
        for sentence in unmet:
            console.print(f"  {sentence}", soft_wrap=True)


@app.command()
def apply(file: Path, as_json: Json = False) -> None:
    """Store a site file as the latest configuration revision."""
    answer = connect().post("/site/revisions", text=_read(file), filename=str(file))
    if as_json:
        show_json(answer)
    elif answer["created"]:
        console.print(f"Revision {answer['revision']} stored ({answer['nodes']} nodes).")
    else:
        console.print(f"Nothing changed: this is revision {answer['revision']} already.")


@app.command()
def diff(a: int, b: int, as_json: Json = False) -> None:
    """Show what changed from revision A to revision B."""
    rows = connect().get("/site/diff", a=a, b=b)
    if not rows and not as_json:
        console.print(f"Revisions {a} and {b} say the same.")
        return
    show_rows(rows, ("kind", "path", "before", "after"), as_json=as_json)


@app.command("list")
def revisions(as_json: Json = False) -> None:
    """List all configuration revisions."""
    rows = connect().get("/site/revisions")
    show_rows(rows, ("revision", "applied", "who", "nodes", "digest"), as_json=as_json)


@app.command()
def show(revision: int, as_json: Json = False) -> None:
    """Show the site file of a revision as it was applied."""
    answer = connect().get(f"/site/revisions/{revision}")
    if as_json:
        show_json(answer)
    else:
        print(answer["source"], end="")


@app.command()
def schema() -> None:
    """Print the JSON Schema of the site file."""
    from levier.domain.schema import site_schema

    show_json(site_schema())
