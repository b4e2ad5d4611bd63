"""What tests do about a computer that stands still for seconds, as a virtual one on a busy machine does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from levier.domain.errors import OutcomeUnknown, Unreachable

T = TypeVar("T")
_AGAIN = 5


def once_heard(act: Callable[[], T], *, told: Callable[[], object]) -> T:
    """What came of `act`: of calls to a BMC that is waited for so shortly that a pause of this computer hides it.

    They are repeated while the BMC could not be read and was told nothing: a loss that a test makes comes later.
    """
    before = told()
    for _ in range(_AGAIN):
        try:
            return act()
        except (Unreachable, OutcomeUnknown) as error:
            unread = isinstance(error, Unreachable) or "could not be read" in error.message
            if not unread or told() != before:
                raise
    return act()
