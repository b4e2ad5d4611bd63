"""How a machine's firmware tells the lab's daemon what it does: lines of JSON on a pipe."""

from __future__ import annotations

import json
import os
from typing import Any

from levier.lab.ledger import EventKind

WRITTEN = "written"
"""Not for the ledger: how many bytes were written to the disk so far."""


class EventPipe:
    """The writing end. `fd` is not handed on to programs that the firmware starts or becomes."""

    def __init__(self, fd: int) -> None:
        os.set_inheritable(fd, False)
        self._fd = fd

    def tell(self, kind: EventKind, **detail: Any) -> None:
        """The event is on its way into the ledger."""
        self._send({"kind": kind.value, "detail": detail})

    def written(self, size_bytes: int) -> None:
        """The daemon knows how much of the disk was written."""
        self._send({"kind": WRITTEN, "detail": {"bytes": size_bytes}})

    def _send(self, message: dict[str, Any]) -> None:
        try:
            os.write(self._fd, json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            # The daemon was killed: the machine, like a real one, runs on without it.
            return
