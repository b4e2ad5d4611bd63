"""What is wrong in a file an operator wrote: where, what, and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

Path = tuple[str | int, ...]
"""From the root of the document to a value: keys of mappings and indexes of lists."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One error in a document whose lines are not known."""

    path: Path
    message: str
    """What is wrong."""
    expected: str
    """What would be right, as the second half of a sentence: `expected …` or `did you mean …?`."""
    related: Path | None = None
    """The other place that takes part, such as the first of two equal names."""
    at_key: bool = False
    """The key is wrong, not its value."""
    wants_text: bool = False
    """The value is a number or the like and would be right in quotes."""


class Problem(BaseModel):
    """One error in a file. Line and column count from 1, as editors do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    line: int
    column: int
    path: str
    """Such as `nodes[1].bmc.address`; empty for the file as a whole."""
    message: str
    expected: str


def render_path(path: Sequence[str | int]) -> str:
    """`path` as an operator reads it: `nodes[1].bmc.address`; keys with dots are quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part and all(each.isalnum() or each in "_-" for each in part):
            text += f".{part}" if text else part
        else:
            text += f'["{part}"]'
    return text


def render_problems(problems: Iterable[Problem], filename: str) -> str:
    """One line a problem, ordered by line and column, whose beginning editors and terminals take for a link.

    Such as `site.yaml:12:5: nodes[1].bmc.adress: unknown key; did you mean 'address'?`.
    """
    ordered = sorted(problems, key=lambda each: (each.line, each.column, each.path, each.message))
    return "\n".join(_line(each, filename) for each in ordered)


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like `word`, or None when none is similar. Upper and lower case count as similar."""
    by_folded = {each.lower(): each for each in sorted(known, reverse=True)}
    found = difflib.get_close_matches(word.lower(), sorted(by_folded), n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


def suggest(word: str, known: Iterable[str], *, otherwise: str) -> str:
    """`did you mean …?` with the closest known word, or `otherwise` when none is similar."""
    match = closest(word, known)
    return f"did you mean {match!r}?" if match else otherwise


def _line(problem: Problem, filename: str) -> str:
    where = f"{filename}:{problem.line}:{problem.column}"
    what = f"{problem.message}; {problem.expected}" if problem.expected else problem.message
    return ": ".join(part for part in (where, problem.path, what) if part)
