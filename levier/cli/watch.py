"""Live progress of an operation, one line a node."""

from __future__ import annotations

from typing import Any

import typer
from rich.live import Live
from rich.table import Table

from levier.cli.client import ApiClient
from levier.cli.output import cell, console
from levier.cli.polling import poll

ENDED = frozenset({"succeeded", "rolled_back", "held", "needs_operator", "cancelled"})


def follow(api: ApiClient, operation: str, *, quiet: bool = False) -> dict[str, Any]:
    """The operation ended; its last state. Ctrl-C detaches and says how to act on it."""
    try:
        if quiet:
            return poll(lambda: _ended(api, operation), interval_s=1.0)
        return _follow_live(api, operation) if console.is_terminal else _follow_lines(api, operation)
    except KeyboardInterrupt:
        console.print(f"\nDetached: operation {operation} goes on.")
        console.print(f"  watch   levier operation watch {operation}")
        console.print(f"  cancel  levier operation cancel {operation}   (stops at the next safe point and undoes)")
        console.print(f"  resume  levier operation resume {operation}   (after a failure)")
        raise typer.Exit(130) from None


def _ended(api: ApiClient, operation: str) -> dict[str, Any] | None:
    answer: dict[str, Any] = api.get(f"/operations/{operation}")
    return answer if answer["state"] in ENDED and not answer["pending"] else None


def _follow_live(api: ApiClient, operation: str) -> dict[str, Any]:
    with Live(console=console, refresh_per_second=4) as live:

        def look() -> dict[str, Any] | None:
            answer: dict[str, Any] = api.get(f"/operations/{operation}")
            live.update(_progress_table(answer))
            return answer if answer["state"] in ENDED and not answer["pending"] else None

        answer = poll(look, interval_s=0.5)
    _closing(answer)
    return answer


def _follow_lines(api: ApiClient, operation: str) -> dict[str, Any]:
    """Without a terminal, each change of a step is a line of its own."""
    seen: dict[tuple[str, str], str] = {}

    def look() -> dict[str, Any] | None:
        answer: dict[str, Any] = api.get(f"/operations/{operation}")
        for step in answer["steps"]:
            now = step["undo"] if step["undo"] not in (None, "", "none") else step["state"]
            key = (step["target"], step["step"])
            if now not in (None, "", "planned", "pending") and seen.get(key) != now:
                seen[key] = now
                took = f" {step['duration_s']:.1f} s" if step["duration_s"] is not None and now == step["state"] else ""
                error = f": {step['error']}" if step["error"] and now in {"failed", "unknown", "undo-failed"} else ""
                console.print(f"{step['target']:<10} {step['step']:<26} {now}{took}{error}", highlight=False)
        return answer if answer["state"] in ENDED and not answer["pending"] else None

    answer = poll(look, interval_s=0.5)
    _closing(answer)
    return answer


def _progress_table(answer: dict[str, Any]) -> Table:
    table = Table(title=f"{answer['kind']} {answer['id']}: {answer['state']}", header_style="bold")
    for column in ("node", "done", "step", "state", "attempt", "seconds"):
        table.add_column(column)
    for target in answer["targets"]:
        steps = [s for s in answer["steps"] if s["target"] == target]
        done = sum(1 for s in steps if s["state"] == "succeeded")
        current = _current(steps)
        state = current["undo"] if current["undo"] not in (None, "", "none") else current["state"]
        table.add_row(
            target,
            f"{done}/{len(steps)}",
            current["step"],
            cell(state),
            str(current["attempts"]),
            cell(current["duration_s"]),
        )
    return table


def _current(steps: list[dict[str, Any]]) -> dict[str, Any]:
    """The step that tells most of the node: the one being undone, else the last one that was begun."""
    undone = [s for s in steps if s["undo"] not in (None, "", "none")]
    if undone:
        return undone[0]
    begun = [s for s in steps if s["attempts"]]
    return begun[-1] if begun else steps[0]


def _closing(answer: dict[str, Any]) -> None:
    console.print(f"Operation {answer['id']}:", cell(answer["state"]))
    for target, outcome in answer["outcomes"].items():
        console.print(f"  {target:<10} {outcome}", highlight=False)
    if answer["error"]:
        console.print(f"  [red]{answer['error']}[/]", highlight=False)
    if answer.get("hint"):
        console.print(f"  way out: {answer['hint']}", highlight=False)
    if answer.get("safe_state"):
        console.print(f"  safe state: {answer['safe_state']}", highlight=False)
