"""The shelf of finished builds: `<cache>/<name>/<inputs-digest>/`, published whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from levier.domain.errors import Conflict, InvalidRequest

_CHUNK = 1 << 20
_WORK_PREFIX = ".building-"


def inputs_digest(inputs: Mapping[str, Any]) -> str:
    """Lower-case hexadecimal SHA-256 of the canonical JSON form of `inputs`: equal inputs, equal digest."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Lower-case hexadecimal SHA-256 of the file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def source_digest(*directories: Path, without: str = "") -> str:
    """Lower-case hexadecimal SHA-256 over the names and contents of all source and data files in `directories`.

    Files whose names begin with `without`, when it is given, do not count.
    """
    digest = hashlib.sha256()
    for directory in directories:
        for path in sorted(p for p in directory.iterdir() if p.is_file() and p.suffix != ".pyc"):
            if without and path.name.startswith(without):
                continue
            digest.update(f"{directory.name}/{path.name}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


@contextmanager
def build_lock(cache: Path, name: str) -> Iterator[None]:
    """No other process builds `name` in this cache meanwhile. Waits for nobody: raises Conflict when one does.

    The lock is the kernel's: it ends with its process however that ends. What a killed build left behind is removed.
    """
    shelf = cache / name
    try:
        shelf.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidRequest(f"the cache {cache} cannot be used: {error.strerror}") from error
    handle = os.open(shelf / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(f"another build of {name} is running in {cache}", hint="wait until it is done") from error
        for leftover in shelf.glob(f"{_WORK_PREFIX}*"):
            shutil.rmtree(leftover)
        yield
    finally:
        os.close(handle)


@contextmanager
def work_directory(cache: Path, name: str) -> Iterator[Path]:
    """A fresh directory on the shelf's own file system; gone afterwards, whatever happened."""
    with tempfile.TemporaryDirectory(dir=cache / name, prefix=_WORK_PREFIX, ignore_cleanup_errors=False) as path:
        yield Path(path)


def publish(work: Path, target: Path) -> None:
    """`target` is the complete directory `work`, in one atomic rename, flushed to disk. An earlier one is replaced."""
    work.chmod(0o755)
    for path in work.iterdir():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    if target.exists():
        displaced = Path(tempfile.mkdtemp(dir=target.parent, prefix=_WORK_PREFIX))
        target.rename(displaced / "replaced")
        work.rename(target)
        shutil.rmtree(displaced)
    else:
        work.rename(target)
    _flush_directory(target.parent)


def _flush_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
