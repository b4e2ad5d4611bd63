"""Recovery as Prefect tasks: what is to be done, and doing it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from levier import bootstrap
from levier.saga.recovery import RecoveryAction, RecoveryVerb

AT_REST = (RecoveryVerb.LEAVE, RecoveryVerb.REFUSE)


def recover_now(but: Collection[str]) -> list[str]:
    """What is due is done, but for the flow runs `but`; in words. No task: the runner calls it. Safe to repeat.

    Blocks for milliseconds. Raises StoreUnavailable, Unreachable.
    """
    recovery = bootstrap.services().recovery
    due = [action for action in recovery.plan() if action.verb not in AT_REST and action.run not in but]
    return [f"{done['operation']}: {done['reason']}: {done['done']}" for done in recovery.execute(due)]


@task(name="plan-recovery", cache_policy=NO_CACHE, persist_result=False)
def look() -> tuple[RecoveryAction, ...]:
    """What there is to do about operations that nobody works on; nothing is touched. Safe to repeat."""
    return bootstrap.services().recovery.plan()


@task(name="execute-recovery", cache_policy=NO_CACHE, persist_result=False)
def execute(actions: tuple[RecoveryAction, ...]) -> list[dict[str, Any]]:
    """Every action is carried out, or its flow run is scheduled; what was done. Safe to repeat."""
    return bootstrap.services().recovery.execute(actions)
