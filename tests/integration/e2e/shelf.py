"""Built images between test runs: a test that spoils an image spoils its own copy."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone_at(shared: Path) -> Iterator[None]:
    """No other run of tests is between looking at `shared` and leaving there what it built itself."""
    shared.mkdir(parents=True, exist_ok=True)
    with (shared / ".in-use").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def bring_from(shared: Path, own: Path) -> None:
    """What other runs built is in `own`, as a copy."""
    own.mkdir(parents=True)
    own.chmod(0o755)
    if shared.is_dir():
        shutil.copytree(shared, own, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".lock", ".*"))


def leave_at(shared: Path, own: Path) -> None:
    """What was built in `own` and is not in `shared` is there for later runs, each directory whole or not at all."""
    for built in own.glob("*/*/"):
        place = shared / built.relative_to(own)
        if built.name.startswith(".") or place.exists():
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        half = place.with_name(f".{place.name}.{os.getpid()}")
        shutil.copytree(built, half)
        try:
            half.rename(place)
        except OSError:  # another run was faster
            shutil.rmtree(half)


def spoilt_copy(shelf: Path, *, as_name: str) -> str:
    """An image `as_name` that unpacks to a bootable disk and is not, byte for byte, what its record says; its name.

    A zstd skippable frame (RFC 8878, 3.1.2) is added: its content is part of the checksum and of nothing else.
    """
    newest = max(shelf.glob("*/image.json"), key=lambda record: record.stat().st_mtime).parent
    place = shelf.parent / as_name / newest.name
    shutil.copytree(newest, place)
    file, record_file = place / "image.raw.zst", place / "image.json"
    with file.open("ab") as image:
        image.write(bytes.fromhex("502a4d18") + (8).to_bytes(4, "little") + b"as built")
    record = json.loads(record_file.read_text())
    with file.open("rb") as image:
        digest = hashlib.file_digest(image, "sha256").hexdigest()
    record_file.write_text(json.dumps(record | {"name": as_name, "sha256": digest, "size_bytes": file.stat().st_size}))
    with file.open("r+b") as image:
        image.seek(-1, os.SEEK_END)
        image.write(b"!")
    return as_name
