"""Built images between test runs: a test that spoils an image spoils its own copy."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


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
