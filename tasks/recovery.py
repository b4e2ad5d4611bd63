"""Recovery as Prefect tasks: what is to be done, and doing it."""

from __future__ import annotations

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from levier import bootstrap
from levier.saga.recovery import RecoveryAction


@task(name="plan-recovery", cache_policy=NO_CACHE, persist_result=False)
def look() -> tuple[RecoveryAction, ...]:
    """What there is to do about operations that nobody works on; nothing is touched. Safe to repeat."""
    return bootstrap.services().recovery.plan()


@task(name="execute-recovery", cache_policy=NO_CACHE, persist_result=False)
def execute(actions: tuple[RecoveryAction, ...]) -> list[dict[str, Any]]:
    """Every action is carried out, or its flow run is scheduled; what was done. Safe to repeat."""
    return bootstrap.services().recovery.execute(actions)
