"""What the lab says really happened: the truth that Levier's own words are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Event = dict[str, Any]
TOUCHING = frozenset({"power", "boot", "disk-write", "netboot-script", "os-start", "crash", "no-bootable-device"})
"""Kinds of events that mean a machine was not left alone."""
CHANGING = frozenset({"Chassis Control", "Set System Boot Options", "Chassis Identify", "Cold Reset"})
"""Commands to a BMC, by their names in the IPMI specification, that change something."""


@dataclass(frozen=True, slots=True)
class Page:
    """A stretch of the ledger; `of` one node, or of all."""

    events: Sequence[Event] = field(default_factory=tuple)

    def of(self, *nodes: str) -> Page:
        """What concerns these nodes."""
        return Page([e for e in self.events if e["node"] in nodes])

    def kind(self, kind: str) -> list[Event]:
        """The events of that kind."""
        return [e for e in self.events if e["kind"] == kind]

    def powered_on(self) -> int:
        """How often power was switched on."""
        return sum(1 for e in self.kind("power") if e["detail"]["to"] == "on")

    def booted_from(self) -> list[str]:
        """What was booted from, in order."""
        return [e["detail"]["device"] for e in self.kind("boot")]

    def image_writes(self) -> int:
        """How often an image was written to a disk."""
        return sum(1 for e in self.kind("disk-write") if e["detail"]["image"])

    def touches(self) -> list[Event]:
        """Whatever says that a machine was not left alone."""
        return [e for e in self.events if e["kind"] in TOUCHING or e["detail"].get("name") in CHANGING]

    def commands(self) -> list[str]:
        """What the BMCs were told within a session, in order."""
        return [e["detail"]["name"] for e in self.kind("bmc-command") if e["detail"]["session"]]


@dataclass(slots=True)
class Mark:
    """A place in the ledger; `page` is everything written since."""

    read: Callable[[int], list[Event]]
    seq: int

    def page(self) -> Page:
        """What happened since the mark."""
        return Page(self.read(self.seq))
