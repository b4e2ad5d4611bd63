"""`levier node …`, `levier address …`, `levier boot-entry …`: what is there."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from levier.cli.client import connect
from levier.cli.output import console, say, show_json, show_rows

app = typer.Typer(help="Nodes of the site.", no_args_is_help=True)
addresses = typer.Typer(help="Allocated addresses.", no_args_is_help=True)
boot_entries = typer.Typer(help="Nodes that may boot from the network now.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept in the audit.")]

NODE_COLUMNS = ("name", "zone", "state", "address", "os", "serial", "revision", "operation", "fault")


@app.command("list")
def nodes(as_json: Json = False) -> None:
    """List all nodes."""
    show_rows(connect().get("/nodes"), NODE_COLUMNS, as_json=as_json)


@app.command()
def show(name: str, as_json: Json = False) -> None:
    """Show one node with its inventory."""
    answer = connect().get(f"/nodes/{name}")
    if as_json:
        show_json(answer)
        return
    for key, value in answer.items():
        if key not in ("inventory", "facts"):
            say(Text(f"{key:<12}", style="bold"), "-" if value in (None, "", {}) else str(value))
    inventory = answer.get("inventory")
    if not inventory:
        console.print("[bold]inventory   [/] - (run `levier inspect`)")
        return
    console.print(
        f"[bold]inventory   [/] {inventory['cpu_count']} CPUs ({inventory['cpu_model'] or 'unknown model'}), "
        f"{inventory['memory_mib']} MiB, {inventory['firmware']}"
    )
    show_rows(inventory["disks"], ("name", "size_bytes", "model", "serial", "wwn"), as_json=False, title="disks")
    show_rows(inventory["nics"], ("name", "mac", "link"), as_json=False, title="NICs")


@app.command("clear-fault")
def clear_fault(name: str, reason: Reason, as_json: Json = False) -> None:
    """Let a node be used again, after you have looked at the machine."""
    answer = connect().post(f"/nodes/{name}/clear-fault", {"reason": reason})
    if as_json:
        show_json(answer)
    else:
        say(f"Node {name} has no fault; it is {answer['state']}.")


@addresses.command("list")
def address_list(as_json: Json = False) -> None:
    """List all allocated addresses."""
    show_rows(connect().get("/addresses"), ("network", "address", "node", "operation"), as_json=as_json)


@boot_entries.command("list")
def boot_entry_list(as_json: Json = False) -> None:
    """List all boot entries."""
    columns = ("node", "mac", "purpose", "operation", "script_fetched_at", "claimed_at", "last_seen")
    show_rows(connect().get("/boot-entries"), columns, as_json=as_json)
