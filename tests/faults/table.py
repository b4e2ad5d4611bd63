"""The fault matrix as a table: for the terminal and, as Markdown, for the documentation."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.faults.cases import FaultCase
from tests.faults.conduct import Verdict

_HEAD = """# What became of each fault at each step

Written by `make bench`: every step that is registered, met by every fault, on a rack of `stub` machines (real IPMI,
HTTP and SSH). A case is right only if the lab's own ledger bears it out: no power-on and no image write repeated,
completed steps not done again, and after an undo no power, boot entry, address or lease left. The killed worker is a
real process that met a real SIGKILL.

| verdict | |
|---|---|
| went on | the operation succeeded; a failed attempt was followed by another |
| resumed | another worker went on at the exact step, and the operation succeeded |
| undone | the operation was rolled back; nothing is left of it |
| undone on | another worker went on with the undo |
| named, then undone | `needs_operator` with both errors and all that stands; undone once the cause was repaired |
"""


@dataclass(slots=True)
class Matrix:
    """The verdicts so far, by case."""

    verdicts: dict[FaultCase, Verdict] = field(default_factory=dict)

    @property
    def wrong(self) -> dict[FaultCase, Verdict]:
        """The cases in which something is not right."""
        return {case: verdict for case, verdict in self.verdicts.items() if verdict.wrong}

    def text(self) -> str:
        """One line a case, and the count."""
        lines = [
            f"{c.kind:<8} {c.step:<27} {c.fault:<66} {v.words if not v.wrong else 'WRONG: ' + '; '.join(v.wrong)}"
            for c, v in sorted(self.verdicts.items(), key=_place)
        ]
        return "\n".join([*lines, "", self.count(), ""])

    def count(self) -> str:
        """How many cases, and how many of them are wrong."""
        return f"{len(self.verdicts)} fault cases, {len(self.wrong)} wrong"

    def page(self) -> str:
        """A page of the documentation: a table for each kind of operation, a row a step, a column a fault."""
        kinds = dict.fromkeys(c.kind for c in self.verdicts)
        return "\n".join([_HEAD, f"{self.count()}.", *(line for kind in kinds for line in self._of(kind))]) + "\n"

    def _of(self, kind: str) -> list[str]:
        own = {(c.step, c.fault): v for c, v in self.verdicts.items() if c.kind == kind}
        steps = list(dict.fromkeys(step for step, _ in own))
        faults = sorted(dict.fromkeys(fault for _, fault in own), key=lambda fault: fault[:3])
        legend = [f"{number}. {fault}" for number, fault in enumerate(faults, 1)]
        numbers = [str(number) for number in range(1, len(faults) + 1)]
        head = ["| step | " + " | ".join(numbers) + " |", "|---" * (len(faults) + 1) + "|"]
        rows = ["| " + " | ".join([step, *(_cell(own.get((step, f))) for f in faults)]) + " |" for step in steps]
        return ["", f"## {kind}", "", *legend, "", *head, *rows]


def _cell(verdict: Verdict | None) -> str:
    if verdict is None:
        return ""
    return "WRONG" if verdict.wrong else verdict.words


def _place(item: tuple[FaultCase, Verdict]) -> tuple[str, str]:
    return item[0].kind, item[0].fault[:3]
