"""Runs one of the shell functions that come with this package on a host."""

from __future__ import annotations

from importlib import resources

from levier.domain.errors import Rejected
from levier.domain.ssh import RemoteHost


def run_function(host: RemoteHost, file: str, call: str, *, timeout_s: float, stdin: bytes = b"") -> list[str]:
    """The lines that `call`, of a function in `file`, printed. Raises Rejected with what it said when it failed."""
    functions = resources.files("drivers.host").joinpath(file).read_text(encoding="utf-8")
    result = host.run(f"{functions}\n{call}", timeout_s=timeout_s, stdin=stdin, check=False)
    if result.exit_status:
        said = result.stderr.strip() or f"`{call}` ended with status {result.exit_status}"
        raise Rejected(said, hint="mend the cause on the host, then repeat")
    return result.stdout.splitlines()
