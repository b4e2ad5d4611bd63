"""`levier expand|inspect|rollback|recover` and `levier operation …`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from levier.cli.client import connect
from levier.cli.cloud import PLAIN_HTTP
from levier.cli.output import cell, console, say, show_json, show_rows
from levier.cli.watch import follow
from levier.domain.install_plan import IDENTITY, PROXY, start

app = typer.Typer(help="Operations: what changes the world.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Nodes = Annotated[list[str] | None, typer.Argument(help="Node names; all nodes that are not deployed yet if none.")]
Detach = Annotated[bool, typer.Option("--detach", help="Return at once; watch with `levier operation watch`.")]
Parallel = Annotated[int, typer.Option(min=1, max=500, help="Nodes worked on at the same time.")]

_FEW = 6
_MINUTES_FROM_S = 120
_OF_COMPONENTS = ("configure", "prepare", "start", "complete")

WhyNot = Annotated[str, typer.Option("--reason", help="Why; it is kept in the audit.")]
Why = Annotated[str, typer.Option("--reason", help="Why, for whoever reads the audit; it may not be blank.")]


def expand(
    nodes: Nodes = None,
    parallel: Parallel = 20,
    wave_size: Annotated[int, typer.Option(min=1, max=500, help="Nodes in one wave.")] = 100,
    detach: Detach = False,
    as_json: Json = False,
) -> None:
    """Take powered-off nodes to verified, configured hosts."""
    _start({"kind": "expand", "nodes": nodes or [], "parallel": parallel, "wave_size": wave_size}, detach, as_json)


def inspect(
    nodes: Nodes = None,
    parallel: Parallel = 20,
    in_band: Annotated[bool, typer.Option(help="Also boot the ramdisk; --no-in-band asks the BMC only.")] = True,
    detach: Detach = False,
    as_json: Json = False,
) -> None:
    """Read the nodes' inventory; their power state is restored afterwards."""
    _start({"kind": "inspect", "nodes": nodes or [], "parallel": parallel, "in_band": in_band}, detach, as_json)


def install(
    parallel: Parallel = 20,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the plan.")] = False,
    detach: Detach = False,
    as_json: Json = False,
) -> None:
    """Take the site's hosts to a running OpenStack, from powered off if need be."""
    stages = connect().get("/operations/plans/install", parallel=parallel)
    if dry_run and as_json:
        show_json(stages)
        return
    if not as_json:
        _show_plan(stages)
    if not dry_run:
        _start({"kind": "install", "parallel": parallel}, detach, as_json)


def _show_plan(stages: list[dict[str, Any]]) -> None:
    """Stage by stage: which hosts take which steps, and about how long that lasts."""
    rows = []
    for number, stage in enumerate(stages, start=1):
        for index, group in enumerate(stage["steps"]):
            first = index == 0
            rows.append(
                {
                    "stage": f"{number}. {_short(stage['stage'])}" if first else "",
                    "hosts": _few(group["hosts"]),
                    "steps": ", ".join(group["steps"]),
                    "about": _about(stage["estimate_s"]) if first else "",
                }
            )
    show_rows(rows, ("stage", "hosts", "steps", "about"), as_json=False)
    count = sum(len(group["hosts"]) * len(group["steps"]) for stage in stages for group in stage["steps"])
    total_s = sum(stage["estimate_s"] for stage in stages)
    say(f"{count} steps in {len(stages)} stages, each after the one before; about {_about(total_s)} in all")
    if not _offers_tls(stages):
        say(PLAIN_HTTP)


def _offers_tls(stages: list[dict[str, Any]]) -> bool:
    """Whether public endpoints have TLS, or there are none. Every component of a site starts in its plan."""
    steps = {step for stage in stages for group in stage["steps"] for step in group["steps"]}
    return start(PROXY) in steps or start(IDENTITY) not in steps


def _short(title: str) -> str:
    """A stage of components without their names, which its steps have."""
    verb = title.partition(" ")[0]
    return verb if verb in _OF_COMPONENTS else title


def _few(hosts: list[str]) -> str:
    return ", ".join(hosts) if len(hosts) <= _FEW else f"{', '.join(hosts[:_FEW])} and {len(hosts) - _FEW} more"


def _about(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= _MINUTES_FROM_S else f"{seconds:.0f} s"


def rollback(operation: str, reason: WhyNot = "", detach: Detach = False, as_json: Json = False) -> None:
    """Undo an operation: every step of it, in reverse."""
    answer = connect().post(f"/operations/{operation}/rollback", {"reason": reason})
    _finish(answer, detach, as_json, wanted="rolled_back")


def recover(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    as_json: Json = False,
) -> None:
    """Look for operations that nobody works on, and resume or undo them."""
    api = connect()
    actions = api.get("/operations/recover") if dry_run else api.post("/operations/recover")
    columns = ("operation", "verb", "reason", "flow_run") if dry_run else ("operation", "verb", "reason", "done")
    if actions or as_json:
        show_rows(actions, columns, as_json=as_json)
    else:
        console.print("Every operation has ended: there is nothing to recover.")


def _start(request: dict[str, Any], detach: bool, as_json: bool) -> None:
    answer = connect().post("/operations", request)
    if not as_json:
        console.print(f"Operation [bold]{answer['id']}[/]: {answer['kind']} of {', '.join(answer['targets'])}")
        console.print(f"Flow run: {answer['ui']}", highlight=False, soft_wrap=True)
    _finish(answer, detach, as_json, wanted="succeeded")


def _finish(answer: dict[str, Any], detach: bool, as_json: bool, *, wanted: str) -> None:
    if not detach:
        answer = follow(connect(), answer["id"], flow_run=answer.get("flow_run"), quiet=as_json)
    if as_json:
        show_json(answer)
    if not detach and answer["state"] != wanted:
        raise typer.Exit(1)


@app.command("list")
def operations(as_json: Json = False) -> None:
    """List all operations."""
    columns = ("id", "kind", "state", "targets", "started", "finished", "error")
    show_rows(connect().get("/operations"), columns, as_json=as_json)


@app.command()
def show(operation: str, as_json: Json = False) -> None:
    """Show every step of an operation."""
    answer = connect().get(f"/operations/{operation}")
    if as_json:
        show_json(answer)
        return
    for key in ("id", "kind", "state", "revision", "started", "finished", "error", "hint", "safe_state", "can_do"):
        console.print(f"[bold]{key:<10}[/]", cell(answer.get(key)))
    if answer["blocked"]:
        say(Text(f"{'blocked':<10}", style="bold"), answer["blocked"])
    for name, outcome in answer["outcomes"].items():
        console.print(f"[bold]{name:<10}[/]", cell(outcome))
    columns = ("target", "step", "state", "attempts", "duration_s", "undo", "error")
    show_rows(answer["steps"], columns, as_json=False)


@app.command()
def watch(operation: str) -> None:
    """Follow an operation until it ends."""
    follow(connect(), operation)


@app.command()
def audit(operation: str, as_json: Json = False) -> None:
    """Show who ordered, cancelled, resumed, skipped or abandoned it, when and why, and what followed."""
    rows = connect().get(f"/operations/{operation}/audit")
    show_rows(rows, ("at", "what", "who", "why", "detail"), as_json=as_json)


@app.command()
def cancel(operation: str, reason: WhyNot = "", as_json: Json = False) -> None:
    """Stop an operation at its next safe point and undo it."""
    answer = connect().post(f"/operations/{operation}/cancel", {"reason": reason})
    _finish(answer, False, as_json, wanted="cancelled")


@app.command()
def resume(operation: str, reason: WhyNot = "", detach: Detach = False, as_json: Json = False) -> None:
    """Let a stuck operation go on: forward, or with the unwinding it was in."""
    answer = connect().post(f"/operations/{operation}/resume", {"reason": reason})
    back = answer["direction"] == "unwinding"
    if not as_json:
        say(f"Operation {operation} goes on {'with its unwinding' if back else 'forward'}.")
    _finish(answer, detach, as_json, wanted="rolled_back" if back else "succeeded")


@app.command()
def skip(
    operation: str,
    step: str,
    reason: Why,
    node: Annotated[str | None, typer.Option("--node", help="Where it failed, if on several nodes.")] = None,
    as_json: Json = False,
) -> None:
    """Take a failed step of a stuck operation as done by you; or give up an undo that failed."""
    request = {"step": step, "node": node, "reason": reason}
    answer = connect().post(f"/operations/{operation}/skip", request)
    if as_json:
        show_json(answer)
        return
    way = "on with its unwinding" if answer["direction"] == "unwinding" else "forward"
    say(f"Skipped {answer['skipped']}.")
    say(f"Operation {operation} is still {answer['state']}; `levier operation resume {operation}` goes {way}.")


@app.command()
def abandon(operation: str, reason: Why, as_json: Json = False) -> None:
    """End a stuck operation as it stands; its nodes are set aside until somebody has looked at them."""
    answer = connect().post(f"/operations/{operation}/abandon", {"reason": reason})
    if as_json:
        show_json(answer)
        return
    say(f"Operation {operation}:", cell(answer["state"]))
    say(f"  safe state: {answer['safe_state'] or 'nothing of it stands'}")
