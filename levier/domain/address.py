"""Addresses as they are taken."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Allocation:
    """An address of a network that a node has, and the operation that took it."""

    network: str
    address: str
    node: str
    operation: str
    at: datetime
