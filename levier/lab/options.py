"""What the commands of `levier lab` share: their common options, and how an error ends them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from levier.domain.errors import LevierError

Name = Annotated[str, typer.Option("--name", help="The lab's name.")]
Dir = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        help="State directory [default: $LEVIER_LAB_DIR or /var/lib/levier/lab/NAME, without root in ~/.local/state].",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@contextmanager
def errors() -> Iterator[None]:
    """Errors end the command with status 1 and say the cause and the way out."""
    try:
        yield
    except LevierError as error:
        typer.echo(f"error: {error}", err=True)
        if error.hint:
            typer.echo(f"  {error.hint}", err=True)
        raise typer.Exit(1) from error
