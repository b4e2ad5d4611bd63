"""The permission that a driver asks for right before it sends something."""

from __future__ import annotations

from typing import Protocol


class Permit(Protocol):
    """Asked right before each packet or command, as close to the wire as a driver can."""

    def __call__(self) -> None:
        """One command may go out now. Safe to repeat.

        Raises LeaseLost when another worker took over: the driver sends nothing more then, not even a logout.
        """
        ...


def unconditional() -> None:
    """Always permitted: for callers that hold no lease because nobody else can command the machine."""
