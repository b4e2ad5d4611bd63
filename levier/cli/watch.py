"""Live progress of an operation, one line a node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from levier.cli.client import ApiClient
from levier.cli.install_report import install_report
from levier.cli.output import cell, console, say
from levier.cli.polling import poll

ENDED = frozenset({"succeeded", "rolled_back", "held", "needs_operator", "cancelled"})


def follow(api: ApiClient, operation: str, *, flow_run: str | None = None, quiet: bool = False) -> dict[str, Any]:
    """The operation ended; its last state. Ctrl-C detaches and says how to act on it."""
    try:
        if quiet:
            return poll(lambda: _ended(_look(api, operation, flow_run)), interval_s=1.0)
        show = _live if console.is_terminal else _lines
        answer = show(lambda: _look(api, operation, flow_run))
    except KeyboardInterrupt:
        console.print(f"\nDetached: operation {operation} goes on.")
        console.print(f"  watch   levier operation watch {operation}")
        console.print(f"  cancel  levier operation cancel {operation}   (stops at the next safe point and undoes)")
        console.print(f"  resume  levier operation resume {operation}   (after a failure)")
        raise typer.Exit(130) from None
    _closing(answer)
    return answer


def _look(api: ApiClient, operation: str, flow_run: str | None) -> dict[str, Any]:
    query = {} if flow_run is None else {"flow_run": flow_run}
    answer: dict[str, Any] = api.get(f"/operations/{operation}", **query)
    return answer


def _ended(answer: dict[str, Any]) -> dict[str, Any] | None:
    return answer if answer["state"] in ENDED and not answer["pending"] else None


def _live(look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """On a terminal: one line a node, redrawn in place."""
    with Live(console=console, refresh_per_second=4) as live:

        def redraw() -> dict[str, Any] | None:
            answer = look()
            live.update(_progress_table(answer))
            return _ended(answer)

        return poll(redraw, interval_s=0.5)


def _lines(look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Without a terminal: each change of a step is a line of its own; what was so before is not told."""
    seen = {(s["target"], s["step"]): _state(s) for s in look()["steps"]}

    def report() -> dict[str, Any] | None:
        answer = look()
        for step in _as_it_goes(answer["steps"]):
            key, now = (step["target"], step["step"]), _state(step)
            if seen[key] != now:
                seen[key] = now
                say(_line(step, now))
        return _ended(answer)

    return poll(report, interval_s=0.5)


def _as_it_goes(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The steps in the order in which a node takes them: forward as planned, and back from the end."""
    targets = list(dict.fromkeys(s["target"] for s in steps))
    forward = [s for s in steps if s["undo"] == "none"]
    back = [s for s in reversed(steps) if s["undo"] != "none"]
    return sorted([*forward, *back], key=lambda s: targets.index(s["target"]))


def _state(step: dict[str, Any]) -> str:
    """The step's state as one word: that of its undo, once there is one."""
    undo = str(step["undo"])
    return str(step["state"]) if undo == "none" else {"running": "undoing", "failed": "undo-failed"}.get(undo, undo)


def _line(step: dict[str, Any], now: str) -> str:
    took = f" {step['duration_s']:.1f} s" if step["duration_s"] is not None and now == step["state"] else ""
    error = f": {step['error']}" if step["error"] and now in {"failed", "unknown", "undo-failed"} else ""
    return f"{step['target']:<10} {step['step']:<26} {now}{took}{error}"


def _progress_table(answer: dict[str, Any]) -> Table:
    table = Table(title=f"{answer['kind']} {answer['id']}: {answer['state']}", header_style="bold")
    for column in ("node", "done", "step", "state", "attempt", "seconds"):
        table.add_column(column)
    for target in answer["targets"]:
        steps = [s for s in answer["steps"] if s["target"] == target]
        done = sum(1 for s in steps if s["state"] == "succeeded")
        current = _current(steps)
        table.add_row(
            target,
            f"{done}/{len(steps)}",
            current["step"],
            cell(_state(current)),
            str(current["attempts"]),
            cell(current["duration_s"]),
        )
    return table


def _current(steps: list[dict[str, Any]]) -> dict[str, Any]:
    """The step that tells most of the node: the one being undone, else the last one that was begun."""
    undone = [s for s in steps if s["undo"] != "none"]
    if undone:
        return undone[0]
    begun = [s for s in steps if s["attempts"]]
    return begun[-1] if begun else steps[0]


def _closing(answer: dict[str, Any]) -> None:
    say(f"Operation {answer['id']}:", cell(answer["state"]))
    for target, outcome in answer["outcomes"].items():
        say(f"  {target:<10} {outcome}")
    if answer["kind"] == "install" and answer["state"] == "succeeded":
        for line in install_report(answer["steps"]):
            say(f"  {line}")
    if answer["error"]:
        say(Text(f"  {answer['error']}", style="red"))
    if answer.get("hint"):
        say(f"  way out: {answer['hint']}")
    if answer.get("safe_state"):
        say(f"  safe state: {answer['safe_state']}")
