"""Install: the site's hosts become a running OpenStack."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from flows.life_cycle import carry_out
from flows.parameters import Parallel
from tasks.operations import plan


@flow(name="install", persist_result=False)
async def install(parallel: Parallel = 20) -> State[None]:
    """Take the site's hosts to a running OpenStack, from powered off if need be.

    Stage by stage: each builds on those before it. When a host that others build on fails, all of it is undone.
    """
    operation = plan("install", [], {"parallel": parallel})
    return await carry_out(operation, parallel=parallel)
