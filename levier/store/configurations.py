"""The configuration that was written to hosts, in SQL, by revision."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, select

from levier.domain.operation import Fence
from levier.store.base import reading, writing
from levier.store.fencing import hold
from levier.store.tables import ConfigurationRow


class ConfigurationStore:
    """What the files of components were on a host in a revision; secrets are references, never values."""

    def __init__(self, engine: Engine, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._engine = engine
        self._clock = clock

    def keep(self, revision: int, host: str, component: str, content: Mapping[str, Any], *, fence: Fence) -> None:
        """The component's content on the host in the revision is this one. Safe to repeat: the last one stays.

        Raises LeaseLost once the fence's worker was taken over.
        """
        text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
        digest = hashlib.sha256(text.encode()).hexdigest()
        with writing(self._engine) as session:
            hold(session, fence)
            row = session.get(ConfigurationRow, (revision, host, component))
            if row is None or row.digest != digest:
                row = ConfigurationRow(
                    revision=revision, host=host, component=component, digest=digest, content=text, at=self._clock()
                )
                session.merge(row)

    def list(self, revision: int, host: str) -> tuple[Any, ...]:
        """What was kept of the host in the revision, by component, in the order of writing; empty for nothing."""
        query = (
            select(ConfigurationRow)
            .where(ConfigurationRow.revision == revision, ConfigurationRow.host == host)
            .order_by(ConfigurationRow.at, ConfigurationRow.component)
        )
        with reading(self._engine) as session:
            return tuple(json.loads(row.content) for row in session.scalars(query))
