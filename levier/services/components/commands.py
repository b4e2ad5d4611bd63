"""A component's command becomes the text a host's shell runs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence


def shell_script(argv: Sequence[str], *, user: str = "root", environment_file: str | None = None) -> str:
    """A POSIX shell text that runs `argv` as `user` and ends with its exit status. Pure.

    The environment file is read as root and its values appear in no argument list.
    """
    program = shlex.join(argv)
    lines = ["set -eu", "cd /"]
    if environment_file:
        lines += ["set -a", f". {shlex.quote(environment_file)}", "set +a"]
    lines.append(f"exec {program}" if user == "root" else f"exec runuser -u {shlex.quote(user)} -- {program}")
    return "\n".join(lines) + "\n"
