"""Raises a kernel limit for as long as labs need it and puts it back with the last of them."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
_RECORD = Path("/run/levier-lab/inotify.json")
_PER_NODE = 8
"""inotify instances that one systemd with its services takes (measured: 5), with reserve."""


def inotify_limit() -> int:
    """The limit in force now: `fs.inotify.max_user_instances`."""
    return int(_INSTANCES.read_text(encoding="ascii"))


@contextmanager
def _record() -> Iterator[dict[str, int]]:
    """What each lab needs, with `""` for the value before the first, under a lock; written back on leaving."""
    _RECORD.parent.mkdir(parents=True, exist_ok=True)
    with _RECORD.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        needs: dict[str, int] = json.loads(file.read() or "{}")
        yield needs
        file.seek(0)
        file.truncate()
        file.write(json.dumps(needs))


def raise_inotify_limit(lab: str, *, nodes: int) -> None:
    """The limit suffices for this lab besides the others; the value found first is remembered. Safe to repeat."""
    with _record() as needs:
        needs.setdefault("", inotify_limit())
        needs[lab] = nodes * _PER_NODE
        _apply(needs)


def restore_inotify_limit(lab: str) -> None:
    """This lab's share is given back; with the last lab the limit is what it was before the first. Safe to repeat."""
    if not _RECORD.exists():
        return
    with _record() as needs:
        if needs.pop(lab, None) is not None:
            _apply(needs)
        if set(needs) == {""}:
            needs.clear()
    # The record stays, empty, so that its lock is always the same file.


def _apply(needs: dict[str, int]) -> None:
    _INSTANCES.write_text(str(sum(needs.values())), encoding="ascii")
