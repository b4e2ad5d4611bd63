"""A permission that ends, as that of a worker whose operation another one took over."""

from __future__ import annotations

from dataclasses import dataclass

from levier.domain.errors import LeaseLost


@dataclass(slots=True)
class RefusingPermit:
    """Permits `after` commands, then none; counts how often it was asked."""

    after: int
    asked: int = 0

    def __call__(self) -> None:
        self.asked += 1
        if self.asked > self.after:
            raise LeaseLost("taken over by another worker", hint="nothing to do here")
