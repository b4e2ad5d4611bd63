"""Starts the system's programs (ip, mount, …) and turns their failures into errors with a cause."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from levier.domain.errors import NotFound, Rejected

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where the system's programs are; the PATH of an ordinary user lacks those for administration."""


def run_program(argv: Sequence[str], *, stdin: str | None = None, timeout_s: float = 60.0) -> str:
    """The program ended with status 0; its standard output is returned.

    Raises Rejected with the end of its standard error, and NotFound when it is not installed.
    """
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False)
    except FileNotFoundError as error:
        raise NotFound(f"the program {argv[0]} is not installed", hint=f"install the package of {argv[0]}") from error
    if done.returncode != 0:
        raise Rejected(f"`{' '.join(argv)}` failed with status {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout
