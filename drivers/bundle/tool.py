"""uv, the tool that resolves, locks and installs: it comes with Levier's own packages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import uv

from drivers.artifacts.command import run_tool
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


def ask_index(arguments: Sequence[str], *, index: Mapping[str, str], cwd: Path, timeout_s: float) -> str:
    """uv ended well, with the package index of the environment `index`; its output.

    Raises Unreachable without an index, Rejected else.
    """
    command = [str(uv_binary()), "--quiet", "--no-python-downloads", *arguments]
    try:
        return run_tool(command, timeout_s=timeout_s, cwd=cwd, env=index)
    except Rejected as error:
        if _NO_INDEX.search(error.message):
            raise Unreachable(
                f"the package index cannot be reached: {error.message}",
                hint="look at the configuration of pip and uv on this machine, and at the network",
            ) from error
        raise
