"""Runs a program to its end beside the event loop; it does not outlive whoever waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from levier.domain.errors import NotFound, Rejected


async def run(argv: Sequence[str], *, stdin: bytes | None = None) -> tuple[bytes, bytes]:
    """The program ended with status 0: what it wrote to its output and its error output.

    Raises Rejected with the end of its error output, NotFound when it is not installed.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError as error:
        raise NotFound(f"the program {argv[0]} is not installed", hint=f"install the package of {argv[0]}") from error
    try:
        out, complaints = await process.communicate(stdin)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise Rejected(
            f"{argv[0]} failed with status {process.returncode}: {complaints.decode(errors='replace')[-500:]}"
        )
    return out, complaints
