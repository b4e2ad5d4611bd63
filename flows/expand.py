"""Expand: powered-off nodes become verified, configured SSH hosts."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from flows.life_cycle import carry_out
from flows.parameters import NodeNames, Parallel, WaveSize
from tasks.operations import plan


@flow(name="expand", persist_result=False)
async def expand(nodes: NodeNames = [], parallel: Parallel = 20, wave_size: WaveSize = 100) -> State[None]:  # noqa: B006 - Prefect reads the default for its form
    """Take powered-off nodes of the site to verified, configured SSH hosts.

    A node that fails is undone without regard to the others; the result says which.
    """
    operation = plan("expand", nodes, {"parallel": parallel, "wave_size": wave_size})
    return await carry_out(operation, parallel=parallel)
