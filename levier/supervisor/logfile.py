"""Log files that do not grow without bound."""

from __future__ import annotations

import os
from pathlib import Path

MAX_BYTES = 10 * 1024 * 1024
KEEP = 3


class RotatingLog:
    """Appends bytes to `path`; at `max_bytes` it becomes `path.1`, that one `path.2`, and so on up to `keep`."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES, keep: int = KEEP) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self._open()

    def write(self, data: bytes) -> None:
        """`data` is in the file; it is never split over two."""
        if self._size and self._size + len(data) > self._max_bytes:
            self._rotate()
        os.write(self._fd, data)
        self._size += len(data)

    def close(self) -> None:
        """The file is closed. Not to be repeated."""
        os.close(self._fd)

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size

    def _rotate(self) -> None:
        os.close(self._fd)
        for number in range(self._keep, 0, -1):
            older = self._numbered(number - 1)
            if older.exists():
                older.replace(self._numbered(number))
        self._open()

    def _numbered(self, number: int) -> Path:
        return self._path if number == 0 else self._path.with_name(f"{self._path.name}.{number}")


def tail(path: Path, *, lines: int = 25) -> str:
    """The last lines of the file; empty when there is none. Safe to repeat."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - 32 * 1024))
            text = log.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
