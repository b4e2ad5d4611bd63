"""A component's command becomes the text a host's shell runs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence


def shell_script(
    argv: Sequence[str], *, user: str = "root", environment_file: str | None = None, lock: str = ""
) -> str:
    """A POSIX shell text that runs `argv` as `user` and ends with its exit status. Pure.

    The environment file is read as root and its values appear in no argument list. With `lock`, a file, nobody else
    runs anything with it meanwhile.
    """
    program = shlex.join(argv)
    lines = ["set -eu", "cd /"]
    if environment_file:
        lines += ["set -a", f". {shlex.quote(environment_file)}", "set +a"]
    # flock itself holds the lock (-o): what the program leaves running, such as Erlang's epmd, does not.
    alone = f"flock -o {shlex.quote(lock)} " if lock else ""
    runuser = "" if user == "root" else f"runuser -u {shlex.quote(user)} -- "
    lines.append(f"exec {alone}{runuser}{program}")
    return "\n".join(lines) + "\n"
