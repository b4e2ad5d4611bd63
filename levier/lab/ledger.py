"""The ledger: what really happened to the machines of a lab, append-only, one JSON object per line."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol


class EventKind(StrEnum):
    """What an entry of the ledger is about."""

    BMC_COMMAND = "bmc-command"
    BMC_LOGIN = "bmc-login"
    BMC_AUTH_FAILED = "bmc-auth-failed"
    POWER = "power"
    BOOT = "boot"
    NETBOOT_SCRIPT = "netboot-script"
    NO_BOOTABLE_DEVICE = "no-bootable-device"
    DISK_WRITE = "disk-write"
    OS_START = "os-start"
    FIRMWARE = "firmware"
    CRASH = "crash"
    FAULT = "fault"
    LAB = "lab"


class Record(Protocol):
    """How one machine writes into the ledger."""

    def __call__(self, kind: EventKind, /, **detail: Any) -> None:
        """The event is in the ledger."""
        ...


@dataclass(frozen=True, slots=True)
class Event:
    """One entry. `time` is UTC in ISO 8601; `node` is empty for what concerns the whole lab."""

    seq: int
    time: str
    node: str
    kind: str
    detail: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The entry as one line of JSON, without the line break."""
        return json.dumps(asdict(self), separators=(",", ":"))


class LedgerWriter:
    """Appends to a ledger. One writer at a time: the daemon; used from its event loop only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        _drop_torn_line(path)
        self._seq = max((event.seq for event in read_events(path)), default=0)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def append(self, *, kind: EventKind, node: str = "", **detail: Any) -> Event:
        """The event is in the file, in one write, so that a killed writer leaves no half entry but the last."""
        self._seq += 1
        event = Event(
            seq=self._seq,
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            node=node,
            kind=kind.value,
            detail=detail,
        )
        os.write(self._fd, event.to_json().encode() + b"\n")
        return event

    def close(self) -> None:
        """The file is closed."""
        os.close(self._fd)


def _drop_torn_line(path: Path) -> None:
    """The file ends with a whole line: what a killed writer left half-written is cut off."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole != len(content):
        os.truncate(path, whole)


def read_events(
    path: Path, *, node: str | None = None, kind: str | Collection[str] | None = None, since: int = 0
) -> Iterator[Event]:
    """The entries after sequence number `since` that match, oldest first. A half-written last line is left out."""
    if not path.exists():
        return
    kinds = (kind,) if isinstance(kind, str) else kind
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            event = _matching(line, node=node, kinds=kinds, since=since)
            if event is not None:
                yield event


def follow_events(
    path: Path, *, node: str | None = None, kind: str | None = None, since: int = 0, poll_s: float = 0.2
) -> Iterator[Event]:
    """Like `read_events`, and then every further entry as it is written, until the caller stops."""
    while not path.exists():
        time.sleep(poll_s)
    with path.open(encoding="utf-8") as lines:
        pending = ""
        while True:
            piece = lines.readline()
            pending += piece
            if not pending.endswith("\n"):
                time.sleep(poll_s)
                continue
            event = _matching(pending, node=node, kinds=None if kind is None else (kind,), since=since)
            pending = ""
            if event is not None:
                yield event


def _matching(line: str, *, node: str | None, kinds: Collection[str] | None, since: int) -> Event | None:
    # Parsing is what reading costs, and most lines of a long ledger tell of commands to BMCs.
    if not line.endswith("\n") or (kinds is not None and not any(f'"{kind}"' in line for kind in kinds)):
        return None
    event = Event(**json.loads(line))
    wanted = event.seq > since and node in (None, event.node) and (kinds is None or event.kind in kinds)
    return event if wanted else None
