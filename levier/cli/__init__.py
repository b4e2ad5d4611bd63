"""The command line: a client of the REST API."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer
from rich.text import Text

from levier import __version__
from levier.cli import cloud, component, config, image, node, operation, ramdisk, release, secret, site
from levier.cli.output import errors, say
from levier.demo.command import demo
from levier.domain.errors import LevierError
from levier.lab import cli as lab
from levier.supervisor import cli as supervisor

app = typer.Typer(
    help="Levier takes racks of powered-off machines to a running, recoverable cloud.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(site.app, name="site")
app.add_typer(component.app, name="component")
app.add_typer(config.app, name="config")
app.add_typer(cloud.app, name="cloud")
app.add_typer(secret.app, name="secret")
app.add_typer(image.app, name="image")
app.add_typer(ramdisk.app, name="ramdisk")
app.add_typer(release.app, name="release")
app.add_typer(node.app, name="node")
app.add_typer(node.addresses, name="address")
app.add_typer(node.boot_entries, name="boot-entry")
app.add_typer(operation.app, name="operation")
app.add_typer(lab.app, name="lab")
COMMANDS: tuple[Callable[..., None], ...] = (
    *(operation.expand, operation.inspect, operation.install, operation.rollback, operation.recover),
    *(supervisor.up, supervisor.down, supervisor.status, demo),
)
for command in COMMANDS:
    app.command()(command)


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


def _problem(problem: dict[str, object]) -> str:
    """One finding of a site file: where, what is wrong, what would be right."""
    what = "; ".join(str(problem[key]) for key in ("message", "expected") if problem.get(key))
    return f"line {problem.get('line')}: {problem.get('path')}: {what}"


def main() -> None:
    """The command ended; its exit status is 0 on success, 1 on an error that was explained, 2 on wrong usage."""
    try:
        app()
    except LevierError as error:
        say(Text("error:", style="bold red"), str(error), to=errors)
        for problem in getattr(error, "problems", ()):
            if isinstance(problem, dict):
                say(f"  {_problem(problem)}", to=errors)
        if error.hint:
            say(f"way out: {error.hint}", to=errors)
        sys.exit(1)
