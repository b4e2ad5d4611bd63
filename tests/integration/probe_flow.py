"""A flow for the runner's tests: steps that leave traces in files, and skip what an earlier attempt finished."""

from __future__ import annotations

import asyncio
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, Field


class Firmware(StrEnum):
    BIOS = "bios"
    UEFI = "uefi"


class Limits(BaseModel):
    """How much at a time."""

    nodes: int = Field(default=3, ge=1, le=10, description="Nodes in parallel")


def trace(directory: Path, line: str) -> None:
    with (directory / "trace").open("a") as out:
        out.write(f"{line}\n")


@task(task_run_name="{name} {node}", cache_policy=NO_CACHE, persist_result=False)
async def step(directory: Path, name: str, node: str) -> None:
    """Done once: the file `{name}.done` is the step log. `wait` lasts until the test creates `go`."""
    if (directory / f"{name}.done").exists():
        trace(directory, f"skip {name}")
        return
    trace(directory, f"do {name}")
    while name == "wait" and not (directory / "go").exists():
        await asyncio.sleep(0.02)
    (directory / f"{name}.done").touch()


@flow(persist_result=False)
async def probe(
    directory: Path,
    nodes: Annotated[list[str], Field(min_length=1, description="Names of the nodes.")],
    firmware: Firmware = Firmware.BIOS,
    limits: Limits = Limits(),  # noqa: B008 - a frozen default is what the run form shows
) -> None:
    """Leave traces.

    Args:
        directory: Where the traces go.
        firmware: How the nodes boot.
        limits: Bounds.
    """
    trace(directory, f"start {os.getpid()}")
    try:
        for name in ("first", "wait", "last"):
            await step(directory, name, nodes[0])
    except asyncio.CancelledError:
        trace(directory, "cancelled")
        raise
    trace(directory, "end")
