"""Becomes another program, with the supervisor's conditions on it: its network namespace, and death with its parent.

A program of its own rather than code between fork and exec: that would run in a copy of a process with threads.
"""

from __future__ import annotations

import os
import sys

from levier.domain.errors import LevierError
from levier.supervisor.lineage import die_with_parent, enter_network_namespace


def command(argv: tuple[str, ...], *, parent: int, namespace: str | None) -> list[str]:
    """The command line that starts `argv` under those conditions."""
    return [sys.executable, "-m", "levier.supervisor.launch", str(parent), namespace or "", *argv]


def main(arguments: list[str]) -> int:
    """Does not return: this process is the program now. 126 or 127 when that cannot be, as shells do."""
    parent, namespace, *argv = arguments
    die_with_parent(int(parent))
    try:
        if namespace:
            enter_network_namespace(namespace)
        os.execvp(argv[0], argv)  # noqa: S606 - no shell is wanted
    except LevierError as error:
        print(f"{error} ({error.hint})", file=sys.stderr)
        return 126
    except OSError as error:
        print(f"cannot start {argv[0]}: {error.strerror}", file=sys.stderr)
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
