"""The tables with which the demonstration ends."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from rich.table import Table

from levier.cli.output import console, table_of
from levier.demo.checks import Check

STAGES = {
    "bmc": ("verify-bmc", "inspect-bmc", "match-site", "power-off", "set-boot-device"),
    "ramdisk": ("power-on", "await-agent"),
    "image": ("write-image",),
    "boot": ("boot-host",),
    "config": ("render-baseline", "apply-baseline", "verify-host"),
}
"""Column → the steps whose seconds it adds up."""


def hosts(nodes: Sequence[dict[str, Any]], operation: dict[str, Any]) -> Table:
    """A table of all hosts with the seconds that each stage took."""
    rows = []
    for node in nodes:
        took = {s["step"]: s["duration_s"] or 0.0 for s in operation["steps"] if s["target"] == node["name"]}
        stages = {f"{stage} s": sum(took.get(s, 0.0) for s in steps) for stage, steps in STAGES.items()}
        rows.append({**node, **stages, "total s": sum(took.values())})
    columns = ("name", "zone", "address", "os", "kernel", "serial", "revision", *(f"{s} s" for s in STAGES), "total s")
    return table_of(rows, columns, title=f"hosts after {operation['id']}")


def stages(operation: dict[str, Any]) -> Table:
    """A table of the operation's stages, when each began and how long it took."""
    first = min(datetime.fromisoformat(s["started"]) for s in operation["steps"] if s["started"])
    rows = []
    for number, steps in groupby(operation["steps"], key=lambda step: int(step["stage"])):
        own = [step for step in steps if step["started"]]
        began = min(datetime.fromisoformat(step["started"]) for step in own)
        ended = max(datetime.fromisoformat(s["started"]) + timedelta(seconds=s["duration_s"] or 0.0) for s in own)
        slowest = max(own, key=lambda step: step["duration_s"] or 0.0)
        rows.append(
            {
                "stage": number + 1,
                "begins after s": f"{(began - first).total_seconds():.0f}",
                "takes s": f"{(ended - began).total_seconds():.1f}",
                "hosts": len({step["target"] for step in own}),
                "steps": len(own),
                "longest": f"{slowest['step']} on {slowest['target']}, {slowest['duration_s']:.1f} s",
            }
        )
    rows.append({"stage": "all", "takes s": f"{(ended - first).total_seconds():.0f}", "steps": len(operation["steps"])})
    columns = ("stage", "begins after s", "takes s", "hosts", "steps", "longest")
    return table_of(rows, columns, title=f"stages of {operation['id']}")


def show_checks(title: str, checks: Sequence[Check]) -> bool:
    """The checks are shown; whether all of them hold."""
    table = Table(title=title, header_style="bold")
    for column in ("", "claim", "the lab's ledger says"):
        table.add_column(column)
    for check in checks:
        table.add_row("[green]ok[/]" if check.holds else "[red]NO[/]", check.claim, check.seen)
    console.print(table)
    return all(check.holds for check in checks)
