"""A deploy ramdisk in one file: written where it was built, taken in where it cannot be."""

from __future__ import annotations

import shutil
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from drivers.artifacts.shelf import build_lock, publish, work_directory
from drivers.ramdisk.builder import (
    KERNEL_FILE,
    NAME,
    RAMDISK_FILE,
    RECORD_FILE,
    BuiltRamdisk,
    RamdiskRecord,
    read_ramdisk,
    verify_ramdisk,
)
from levier.domain.errors import Rejected

_MEMBERS = (RECORD_FILE, KERNEL_FILE, RAMDISK_FILE)


def export_bundle(built: BuiltRamdisk, target: IO[bytes]) -> None:
    """`target` holds the ramdisk, its kernel and its record as a tar archive. Raises as `verify_ramdisk` does."""
    verify_ramdisk(built)
    directory = built.kernel_path.parent
    with tarfile.open(fileobj=target, mode="w|") as archive:
        for name in _MEMBERS:
            archive.add(directory / name, arcname=name, recursive=False)


def import_bundle(cache: Path, file: Path) -> BuiltRamdisk:
    """The ramdisk in the bundle is on the shelf, and the one that is served from now on.

    Kernel and ramdisk are byte for byte what the bundle's record says. Safe to repeat. Raises Rejected when they are
    not or the file is no bundle, Conflict while a ramdisk is built or imported.
    """
    with build_lock(cache, NAME), work_directory(cache, NAME) as work:
        finished = work / "finished"
        finished.mkdir()
        _extract(file, finished)
        record = _record(finished / RECORD_FILE)
        (finished / RECORD_FILE).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
        verify_ramdisk(read_ramdisk(finished))
        target = cache / NAME / f"imported-{record.ramdisk_sha256[:32]}"
        publish(finished, target)
    return read_ramdisk(target)


def _extract(file: Path, target: Path) -> None:
    try:
        with tarfile.open(file, mode="r:") as archive:
            for name in _MEMBERS:
                content = archive.extractfile(name)
                if content is None:
                    raise KeyError(f"{name} is no regular file")
                with (target / name).open("wb") as out:
                    shutil.copyfileobj(content, out)
    except (tarfile.TarError, KeyError, OSError) as error:
        raise Rejected(
            f"this is no bundle of a deploy ramdisk: {error}", hint="write one with `levier ramdisk export FILE`"
        ) from error


def _record(path: Path) -> RamdiskRecord:
    try:
        record = RamdiskRecord.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise Rejected(
            f"the bundle's record cannot be read: {error.errors()[0]['msg']}",
            hint="write the bundle anew with `levier ramdisk export FILE`",
        ) from error
    return record.model_copy(update={"imported_at": datetime.now(UTC)})
