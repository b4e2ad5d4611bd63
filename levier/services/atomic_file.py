"""Files that are either the old ones or the new ones, whatever happens in between."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


def replace_file(path: Path, content: bytes, *, mode: int) -> None:
    """The file holds `content` with `mode`, durably; a reader sees the old file or the new one. Safe to repeat.

    The temporary file is made with mode 0600 (tempfile.mkstemp) and in the same directory, since rename(2) is atomic
    within one file system only. Raises OSError.
    """
    with _temporary(path, content, mode=mode) as temporary:
        os.replace(temporary, path)
    _sync_directory(path.parent)


def create_file(path: Path, content: bytes, *, mode: int) -> bool:
    """There is a file, complete and durable; True if it is this one, False if there was one, which is left as it is.

    Of any number of processes that create it together exactly one does (link(2) never replaces). Raises OSError.
    """
    with _temporary(path, content, mode=mode) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
    _sync_directory(path.parent)
    return True


@contextlib.contextmanager
def _temporary(path: Path, content: bytes, *, mode: int) -> Iterator[str]:
    """A complete file beside `path`, gone afterwards unless it was renamed."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        yield temporary
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _sync_directory(directory: Path) -> None:
    """The directory's entries are on disk: without it a crash may bring the old file back (fsync(2))."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
