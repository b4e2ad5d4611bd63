"""What docs/commands.md says of the commands, made from the commands themselves."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import typer
from typer.cli import get_docs_for_click

from levier.cli import app

BEGIN = "<!-- commands: made by python -m levier.cli.docs -->"
END = "<!-- end of commands -->"
_HELP_LINE = re.compile(r"^\* `--help`: .*\n", re.MULTILINE)
_COMPLETION_LINES = re.compile(r"^\* `--(?:install|show)-completion`: .*\n", re.MULTILINE)
_EMPTY_OPTIONS = re.compile(r"\*\*Options\*\*:\n\n(?!\* )")


def reference() -> str:
    """Every command with its arguments and options, as Markdown by Typer's own generator."""
    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="levier"), name="levier")
    # The same in every command: said once, in the part of the page that is written by hand.
    for pattern in (_HELP_LINE, _COMPLETION_LINES, _EMPTY_OPTIONS):
        text = pattern.sub("", text)
    # The page has its own title.
    return re.sub(r"\n{3,}", "\n\n", text.partition("\n")[2]).strip()


def with_reference(page: str) -> str:
    """`page` with the part between the two marks made anew. Raises ValueError when a mark is missing."""
    before, after = page.split(BEGIN)[0], page.split(END)[1:]
    if len(after) != 1 or BEGIN not in page:
        raise ValueError(f"the page needs {BEGIN!r} and {END!r}, once each")
    return f"{before}{BEGIN}\n{reference()}\n{END}{after[0]}"


def main(docs: Path) -> None:
    """The reference in docs/commands.md is that of the commands. Safe to repeat."""
    page = docs / "commands.md"
    page.write_text(with_reference(page.read_text()))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs"))
