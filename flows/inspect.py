"""Inspect: what nodes are made of, seen by their BMC and from inside."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import Field

from flows.life_cycle import carry_out
from flows.parameters import NodeNames, Parallel, WaveSize
from tasks.operations import plan

InBand = Annotated[bool, Field(description="Also boot the ramdisk and read the inventory from inside.")]


@flow(name="inspect", persist_result=False)
async def inspect(
    nodes: NodeNames = [],  # noqa: B006 - Prefect reads the default for its form
    parallel: Parallel = 20,
    wave_size: WaveSize = 100,
    in_band: InBand = True,
) -> State[None]:
    """Record what nodes are made of; their power state is as before afterwards."""
    options = {"parallel": parallel, "wave_size": wave_size, "in_band": in_band}
    return await carry_out(plan("inspect", nodes, options), parallel=parallel)
