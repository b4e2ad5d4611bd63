"""How often Python looks for dead objects that refer to each other."""

from __future__ import annotations

import gc

SELDOM = 100_000
"""New objects between two looks; Python's own choice is 700."""


def collect_seldom() -> None:
    """Dead cycles are looked for every SELDOM new objects. Safe to repeat; for a process that is about to import much.

    Importing makes objects that stay, and each look goes through more of them: a fifth of the time in which a flow run
    starts (3.3 s of processor time without, 2.6 s with this).
    """
    gc.set_threshold(SELDOM, *gc.get_threshold()[1:])
