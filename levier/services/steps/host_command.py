"""A component's command on a host: run, and what it said."""

from __future__ import annotations

from collections.abc import Sequence

from levier.domain.component import Command
from levier.domain.ssh import CommandResult, RemoteHost
from levier.services.components import shell_script

_LAST_CHARACTERS = 1500


def run_command(host: RemoteHost, command: Command, argv: Sequence[str], *, lock: str = "") -> CommandResult:
    """`argv` has ended, run as the command's user, with its environment and within its time; any status is returned.

    With `lock`, nothing else ran with it on that host meanwhile.
    """
    script = shell_script(argv, user=command.user, environment_file=command.environment_file, lock=lock)
    return host.run(script, timeout_s=command.timeout_s, check=False)


def last_words(result: CommandResult) -> str:
    """The end of what a command said, of its complaints if it had any. Pure."""
    return (result.stderr.strip() or result.stdout.strip())[-_LAST_CHARACTERS:]
