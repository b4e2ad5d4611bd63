"""Recovers as soon as an operation and its flow run disagree: a run was cancelled, crashed or failed under it.

Done in the runner itself: it costs milliseconds, where a `recover` flow run costs seconds of processor time and, on a
busy machine, many more until it begins (docs/decisions/0144). That one's schedule is the net below.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, WorkPoolFilter
from prefect.client.schemas.sorting import FlowRunSort
from prefect.logging import get_logger

LOOK_INTERVAL_S = 10.0
BACK = timedelta(minutes=10)
"""Runs that ended longer ago are left to the look that is not bound to an event."""


class Disagreement:
    """Watches one work pool. `recover` carries out what is due, but for the runs it is given; it may block."""

    def __init__(self, pool: str, client: PrefectClient, recover: Callable[[Collection[str]], list[str]]) -> None:
        self._pool = pool
        self._client = client
        self._recover = recover
        self._known: set[tuple[UUID, datetime]] = set()
        self._next_look = 0.0
        self._log = get_logger("levier.recovery")

    async def sweep(self, *, adopting: Collection[UUID]) -> list[str]:
        """What recovery had to do is done; in words. Safe to repeat.

        Runs that are `adopting` go on by themselves. Looks at the step log only at the first call, after a run ended
        otherwise than well, and every LOOK_INTERVAL_S.
        """
        news = await self._newly_ended()
        if not news and time.monotonic() < self._next_look:
            return []
        self._next_look = time.monotonic() + LOOK_INTERVAL_S
        done = await asyncio.to_thread(self._recover, frozenset(str(run) for run in adopting))
        for words in done:
            self._log.warning("recovered: %s", words)
        return done

    async def _newly_ended(self) -> bool:
        """Whether a run ended otherwise than well since the last call."""
        ended = {"type": {"any_": ["CANCELLED", "CRASHED", "FAILED"]}}
        runs = await self._client.read_flow_runs(
            flow_run_filter=FlowRunFilter.model_validate(
                {
                    "state": ended,
                    "deployment_id": {"is_null_": False},
                    "end_time": {"after_": datetime.now(UTC) - BACK},
                }
            ),
            work_pool_filter=WorkPoolFilter.model_validate({"name": {"any_": [self._pool]}}),
            sort=FlowRunSort.END_TIME_DESC,
            limit=100,
        )
        found = {(run.id, run.state.timestamp) for run in runs if run.state is not None}
        news, self._known = found - self._known, found
        return bool(news)
