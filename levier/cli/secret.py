"""`levier secret …`: credentials that the site file refers to by name."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from levier.cli.client import connect
from levier.cli.output import console, show_json
from levier.domain.errors import InvalidRequest

app = typer.Typer(help="Stored secrets: values go in and never come out.", no_args_is_help=True)


@app.command("set")
def set_secret(
    name: str,
    username: Annotated[str | None, typer.Option(help="User name; the password is asked for.")] = None,
    from_json: Annotated[
        bool, typer.Option("--stdin-json", help='Read {"username": …, "password": …} from standard input.')
    ] = False,
) -> None:
    """Store a credential. A password is never taken from the command line, where `ps` would show it."""
    connect().put(f"/secrets/{name}", _values(username, from_json))
    console.print(f"Secret {name} stored.")


def _values(username: str | None, from_json: bool) -> dict[str, str]:
    if from_json:
        try:
            values = json.loads(sys.stdin.read())
        except ValueError as error:
            raise InvalidRequest(f"standard input is not JSON: {error}") from error
        if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
            raise InvalidRequest("standard input must be one JSON object of strings")
        return values
    if username is None:
        raise InvalidRequest("no user name given", hint="use --username NAME, or --stdin-json")
    password = typer.prompt("Password", hide_input=True) if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    return {"username": username, "password": password}


@app.command("list")
def list_secrets(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the names of all secrets."""
    names = connect().get("/secrets")
    if as_json:
        show_json(names)
    else:
        console.print("\n".join(names) or "No secret is stored.")


@app.command()
def delete(name: str) -> None:
    """Delete a secret."""
    connect().delete(f"/secrets/{name}")
    console.print(f"Secret {name} deleted.")
