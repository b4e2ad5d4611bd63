"""How the command line shows things: a table for people, JSON for programs."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDE = 200
"""Columns where there is no terminal to fit: a file or a pipe is searched for whole names."""

console = Console(width=None if sys.stdout.isatty() else WIDE)
errors = Console(stderr=True, width=None if sys.stderr.isatty() else WIDE)

COLOURS = {
    "ready": "green",
    "succeeded": "green",
    "on": "green",
    "running": "cyan",
    "started": "cyan",
    "deploying": "cyan",
    "undone": "yellow",
    "rolled_back": "yellow",
    "unwinding": "yellow",
    "held": "yellow",
    "cancelled": "yellow",
    "failed": "red",
    "unknown": "red",
    "undo-failed": "red",
    "needs_operator": "red",
}


def say(*parts: str | Text, to: Console = console) -> None:
    """The parts are shown as they are: text from elsewhere may hold brackets, which are no markup, and long words."""
    to.print(*parts, highlight=False, markup=False, soft_wrap=True)


def show_json(value: Any) -> None:
    """`value` is on standard output as JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def show_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool, title: str = "") -> None:
    """The rows are on standard output: as JSON in full, or as a table of `columns`."""
    if as_json:
        show_json(list(rows))
        return
    console.print(table_of(rows, columns, title=title))


def table_of(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, title: str = "") -> Table:
    """A table of the rows; an absent value is a dash."""
    table = Table(title=title or None, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(cell(row.get(column)) for column in columns))
    return table


def cell(value: Any) -> Text:
    """One value as a person reads it."""
    if value is None or value == "":
        return Text("-", style="dim")
    if isinstance(value, float):
        return Text(f"{value:.1f}")
    if isinstance(value, list | tuple):
        return Text(", ".join(str(v) for v in value))
    text = _short_time(str(value))
    return Text(text, style=COLOURS.get(text, ""))


def _short_time(text: str) -> str:
    """A timestamp to the second, without the zone: all are UTC; any other text as it is."""
    return f"{text[:10]} {text[11:19]}" if re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00", text) else text
