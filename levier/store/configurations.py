"""The rendered configuration of hosts in SQL, by revision."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine

from levier.domain.errors import NotFound
from levier.store.base import exclusive, reading, writing
from levier.store.tables import ConfigurationRow


class ConfigurationStore:
    """What the files of a host are in a revision; secrets are references, never values."""

    def __init__(self, engine: Engine, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._engine = engine
        self._clock = clock

    def keep(self, revision: int, host: str, components: Sequence[Any]) -> str:
        """The host's content in the revision is this one; returns its SHA-256. Safe to repeat: the last one stays."""
        text = json.dumps(list(components), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        digest = hashlib.sha256(text.encode()).hexdigest()
        with reading(self._engine) as session:
            row = session.get(ConfigurationRow, (revision, host))
            if row is not None and row.digest == digest:
                return digest
        with writing(self._engine) as session:
            exclusive(session, f"configuration {revision} {host}")
            row = ConfigurationRow(revision=revision, host=host, digest=digest, content=text, at=self._clock())
            session.merge(row)
        return digest

    def get(self, revision: int, host: str) -> list[Any]:
        """What was kept. Raises NotFound."""
        with reading(self._engine) as session:
            row = session.get(ConfigurationRow, (revision, host))
            if row is None:
                raise NotFound(
                    f"the configuration of {host} in revision {revision} was never rendered",
                    hint=f"levier config show {host} --revision {revision}",
                )
            content: list[Any] = json.loads(row.content)
            return content
