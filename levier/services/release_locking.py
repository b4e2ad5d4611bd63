"""`python -m levier.services.release_locking [DIRECTORY…]`: the locks of releases, made from what they ask for."""

from __future__ import annotations

import sys
from pathlib import Path

from drivers.bundle.locking import make_build_lock, make_lock
from levier.domain.errors import LevierError
from levier.domain.release import diff_packages, parse_lock
from levier.services.release_catalogue import (
    BUILD_LOCK_FILE,
    LOCK_FILE,
    SPEC_FILE,
    read_release,
    read_spec,
    shipped_directory,
)


def lock_release(directory: Path) -> str:
    """Both locks in `directory` are those of its `release.yaml`; says what that changed. Safe to repeat."""
    spec = read_spec(directory)
    place = directory / LOCK_FILE
    before = parse_lock(place.read_text(encoding="utf-8")).versions() if place.is_file() else {}
    lock, build_lock = make_lock(spec), make_build_lock(spec)
    place.write_text(lock.text, encoding="utf-8")
    (directory / BUILD_LOCK_FILE).write_text(build_lock.text, encoding="utf-8")
    read_release(directory)
    changed = len(diff_packages(before, lock.versions()))
    return f"{spec.name}: {len(lock.packages)} packages, {changed} changed"


def main(arguments: list[str]) -> int:
    """The locks of the directories, or of all shipped releases, are made; 1 when one could not be, having said why."""
    shipped = sorted(path.parent for path in shipped_directory().glob(f"*/{SPEC_FILE}"))
    directories = [Path(each) for each in arguments] or shipped
    try:
        for directory in directories:
            print(lock_release(directory), flush=True)
    except LevierError as error:
        print(f"{error}\n{error.hint}".strip(), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
