"""Runs the build tools; their failures become errors an operator can act on."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from levier.domain.errors import InvalidRequest, OutcomeUnknown, Rejected

_TAIL_LINES = 12
_UMASK = 0o022
"""What is built is for others to read; services, which keep theirs to themselves, build it too."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def require_root(purpose: str) -> None:
    """This process is root. Raises InvalidRequest otherwise."""
    if os.geteuid() != 0:
        raise InvalidRequest(f"{purpose} needs root", hint="run it with sudo")


def require_tools(tools: Mapping[str, str]) -> None:
    """Every tool is installed; `tools` maps a program to its Debian package. Raises InvalidRequest if not."""
    missing = {tool: package for tool, package in tools.items() if shutil.which(tool, path=_PATH) is None}
    if missing:
        raise InvalidRequest(
            f"missing programs: {', '.join(sorted(missing))}",
            hint=f"apt-get install {' '.join(sorted(set(missing.values())))}",
        )


def require_files(files: Mapping[str, str]) -> None:
    """Every file exists. `files` maps a path to the Debian package it belongs to. Raises InvalidRequest otherwise."""
    missing = {path: package for path, package in files.items() if not Path(path).exists()}
    if missing:
        raise InvalidRequest(
            f"missing files: {', '.join(sorted(missing))}",
            hint=f"apt-get install {' '.join(sorted(set(missing.values())))}",
        )


def run_tool(
    command: Sequence[str],
    *,
    timeout_s: float,
    stdin: bytes = b"",
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> str:
    """The program ended with status 0; its standard output and error, interleaved, are returned.

    The program cannot outlive the calling thread (it is killed with it). Raises Rejected with the end of its output on
    any other status, OutcomeUnknown when `timeout_s` runs out, InvalidRequest when `setpriv` is not installed.
    """
    environment = {"PATH": _PATH, "LC_ALL": "C.UTF-8", "HOME": "/root", **(env or {})}
    try:
        done = subprocess.run(
            ["setpriv", "--pdeathsig", "KILL", *command],
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            cwd=cwd,
            env=environment,
            umask=_UMASK,
            check=False,
        )
    except FileNotFoundError as error:
        raise InvalidRequest("setpriv is not installed", hint="apt-get install util-linux") from error
    except subprocess.TimeoutExpired as error:
        raise OutcomeUnknown(f"{command[0]} did not end within {timeout_s:.0f} s") from error
    output = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0:
        raise Rejected(f"{command[0]} failed with status {done.returncode}: {_tail(output.splitlines())}")
    return output


def isolated(command: Sequence[str]) -> list[str]:
    """`command` wrapped so that its mounts and its processes end with it, also when it is killed."""
    return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", *command]


def _tail(lines: Iterable[str]) -> str:
    return " | ".join(line.strip() for line in list(lines)[-_TAIL_LINES:] if line.strip())
