"""Configuration revisions in SQL."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from levier.domain.errors import NotFound
from levier.domain.revision import Revision
from levier.store.base import exclusive, reading, writing
from levier.store.tables import RevisionRow


def canonical(content: Mapping[str, Any]) -> str:
    """The one JSON text of `content`: sorted keys, no spaces. TypeError for what is not JSON."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


class RevisionStore:
    """Immutable, numbered revisions; the newest is what the operator wants."""

    def __init__(self, engine: Engine, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._engine = engine
        self._clock = clock

    def apply(self, content: Mapping[str, Any], source: str, who: str) -> tuple[int, bool]:
        """The newest revision has this content; returns its number and whether it was made now.

        Safe to repeat. Content of an older revision makes a new one: going back is a change too (decision 0064).
        """
        text = canonical(content)
        digest = hashlib.sha256(text.encode()).hexdigest()
        with writing(self._engine) as session:
            exclusive(session, "revision")
            newest = _newest(session)
            if newest is not None and newest.digest == digest:
                return newest.number, False
            number = newest.number + 1 if newest is not None else 1
            row = RevisionRow(number=number, digest=digest, content=text, source=source, who=who, at=self._clock())
            session.add(row)
            return number, True

    def get(self, number: int) -> Revision:
        """The revision. Raises NotFound."""
        with reading(self._engine) as session:
            row = session.get(RevisionRow, number)
            if row is None:
                raise NotFound(f"there is no configuration revision {number}", hint="levier site list shows them")
            return _revision_of(row)

    def latest(self) -> Revision | None:
        """The newest revision; None before the first."""
        with reading(self._engine) as session:
            row = _newest(session)
            return _revision_of(row) if row is not None else None

    def list(self) -> tuple[Revision, ...]:
        """All revisions, newest first."""
        with reading(self._engine) as session:
            rows = session.scalars(select(RevisionRow).order_by(RevisionRow.number.desc()))
            return tuple(_revision_of(row) for row in rows)


def _newest(session: Session) -> RevisionRow | None:
    return session.scalar(select(RevisionRow).order_by(RevisionRow.number.desc()).limit(1))


def _revision_of(row: RevisionRow) -> Revision:
    return Revision(
        number=row.number,
        digest=row.digest,
        content=json.loads(row.content),
        source=row.source,
        who=row.who,
        at=row.at,
    )
