"""`levier lab inject`, `faults` and `heal`: what can go wrong in a rack, made to go wrong."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from levier.domain.bmc import PowerState
from levier.domain.errors import InvalidRequest
from levier.lab.faults import TRAITS, BmcCommand, Fault, FaultKind, Stage
from levier.lab.options import Dir, Json, Name, errors
from levier.lab.rack import ALL, Rack

app = typer.Typer()
_ALWAYS = "all"
Node = Annotated[str, typer.Argument(metavar="NODE", help=f"A node, or `{ALL}`.")]


@app.command()
def inject(
    node: Node,
    fault: Annotated[FaultKind, typer.Argument(metavar="FAULT", help=", ".join(f"`{kind}`" for kind in FaultKind))],
    after: Annotated[int, typer.Option(help="Let this many occurrences go well first.")] = 0,
    count: Annotated[
        str | None,
        typer.Option(help="How often it strikes, or `all` [default: 1; clock-off, and with --percent: all]."),
    ] = None,
    percent: Annotated[float, typer.Option(help="Strike in this share of the occurrences only.")] = 100.0,
    seed: Annotated[int, typer.Option(help="Seed of --percent: the same seed, the same draws.")] = 0,
    seconds: Annotated[
        float | None,
        typer.Option(help="How late replies are, how long a BMC is dead, how far a clock is ahead (below 0: behind)."),
    ] = None,
    says: Annotated[
        PowerState | None, typer.Option(help="What a lying BMC says [default: the opposite of the truth].")
    ] = None,
    stage: Annotated[Stage | None, typer.Option(help="Where the ramdisk hangs [default: at the first].")] = None,
    command: Annotated[
        BmcCommand | None, typer.Option(help="Only for this command of the BMC [default: for each].")
    ] = None,
    name: Name = "demo",
    directory: Dir = None,
) -> None:
    """Make something go wrong: arm FAULT on NODE. It strikes when it is its turn; the ledger says when it did.

    A fault that a machine's chassis cannot do is refused. Of each kind a node has one at most; arming it again
    starts its counting anew. Faults end with `levier lab heal` and with the lab.
    """
    with errors():
        armed = Fault(
            kind=fault,
            after=after,
            count=_count(count, fault, percent=percent),
            percent=percent,
            seed=seed,
            seconds=seconds,
            says=says,
            stage=stage,
            command=command,
        )
        nodes = Rack.at(name=name, directory=directory).inject(node, armed)
    typer.echo(f"{fault.value}: armed on {', '.join(nodes) if len(nodes) < 6 else f'{len(nodes)} nodes'}")
    typer.echo(f"an occurrence is {TRAITS[fault].occurrence}; what happens:  levier lab events --kind fault --follow")


def _count(text: str | None, kind: FaultKind, *, percent: float) -> int | None:
    if text is None:
        return TRAITS[kind].count if percent == 100 else None
    if text == _ALWAYS:
        return None
    if not text.isdigit():
        raise InvalidRequest(f"--count {text!r} is neither a number nor `{_ALWAYS}`")
    return int(text)


@app.command()
def faults(name: Name = "demo", directory: Dir = None, as_json: Json = False) -> None:
    """List what is armed, how often it could have struck, and how often it did."""
    with errors():
        found = Rack.at(name=name, directory=directory).faults()
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    if not found:
        typer.echo("no fault is armed")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("node", "fault", "terms", "occurrences", "struck"):
        table.add_column(column)
    for row in found:
        table.add_row(row["node"], row["kind"], _terms(row), str(row["seen"]), str(row["struck"]))
    Console(width=120).print(table)


@app.command()
def heal(
    node: Annotated[str, typer.Argument(metavar="[NODE]", help=f"A node, or `{ALL}`.")] = ALL,
    fault: Annotated[FaultKind | None, typer.Argument(metavar="[FAULT]", help="Only this one.")] = None,
    name: Name = "demo",
    directory: Dir = None,
) -> None:
    """Disarm faults: all of them, those of NODE, or only FAULT on NODE. Safe to repeat."""
    with errors():
        healed = Rack.at(name=name, directory=directory).heal(node, fault)
    for row in healed:
        typer.echo(f"{row['node']}: {row['fault']} healed")
    if not healed:
        typer.echo("no fault was armed")


def _terms(row: dict[str, Any]) -> str:
    terms = [f"count={row['count'] or _ALWAYS}"]
    usual = {"after": 0, "percent": 100.0, "seed": 0}
    terms += [f"{name}={row[name]}" for name, value in usual.items() if row[name] != value]
    options = ("seconds", "says", "stage", "command")
    return " ".join(terms + [f"{name}={row[name]}" for name in options if row[name] is not None])
