"""uv, the tool that resolves, locks and installs: it comes with Levier's own packages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import uv

from drivers.artifacts.command import run_tool
from drivers.bundle.index import index_environment
from levier.domain.errors import InvalidRequest, Rejected, Unreachable

_NO_INDEX = re.compile(
    r"(Failed to fetch|error sending request|dns error|Connection refused|Could not connect|operation timed out)", re.I
)


def uv_binary() -> Path:
    """The program. Raises InvalidRequest when it is not installed beside Levier."""
    try:
        return Path(uv.find_uv_bin())
    except FileNotFoundError as error:
        raise InvalidRequest("uv is not installed", hint="install Levier's packages again: make setup") from error


def ask_index(arguments: Sequence[str], *, cwd: Path, timeout_s: float, env: Mapping[str, str] | None = None) -> str:
    """uv ended well, with this machine's package index; its output. Raises Unreachable without an index, Rejected else.

    The versions it comes to are those of the lock or of the request; no package is built or installed by asking.
    """
    command = [str(uv_binary()), "--quiet", "--no-python-downloads", *arguments]
    try:
        return run_tool(command, timeout_s=timeout_s, cwd=cwd, env={**index_environment(), **(env or {})})
    except Rejected as error:
        if _NO_INDEX.search(error.message):
            raise Unreachable(
                f"the package index cannot be reached: {error.message}",
                hint="look at the configuration of pip and uv on this machine, and at the network",
            ) from error
        raise
