"""Files of package archives on the disk: bounded, kept between labs, shared by those that run at the same time."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CACHE_VARIABLE = "LEVIER_LAB_PACKAGE_CACHE"
"""Environment variable that replaces the directory of the cache."""
LIMIT_BYTES = 4 << 30
_KEPT = 0.9
_ABANDONED_S = 3600.0
_PART = ".part-"
_PATH = re.compile(r"(dists|pool)(/[A-Za-z0-9_][A-Za-z0-9._+~:=@-]*)+")


def cache_dir() -> Path:
    """$LEVIER_LAB_PACKAGE_CACHE, or below the user's own cache directory (XDG Base Directory Specification 0.8)."""
    if explicit := os.environ.get(CACHE_VARIABLE):
        return Path(explicit).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "levier/packages"


def is_archive_path(path: str) -> bool:
    """Whether an archive can have such a path; nothing else is looked at or asked for."""
    return _PATH.fullmatch(path) is not None


def is_lasting(path: str) -> bool:
    """Whether what is there never changes: packages carry their version, lists by hash their digest."""
    return path.startswith("pool/") or "/by-hash/" in path


@dataclass(frozen=True, slots=True)
class PackageCache:
    """The cache in `root`, at most `limit_bytes` large after each `trim`."""

    root: Path
    limit_bytes: int = LIMIT_BYTES

    def place(self, url: str, path: str) -> Path:
        """Where the file of the archive at `url` is or would be; archives of other addresses have other files."""
        return self.root / hashlib.sha256(url.encode()).hexdigest()[:16] / path

    def fresh_part(self, place: Path) -> Path:
        """An empty file beside `place` to write into."""
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=_PART, dir=place.parent)
        os.close(handle)
        return Path(name)

    def keep(self, part: Path, place: Path, *, modified: float) -> None:
        """The complete part is the file at `place`, last modified then (seconds since the epoch)."""
        part.chmod(0o644)
        os.utime(part, (time.time(), modified))
        part.replace(place)

    def touch(self, place: Path) -> None:
        """The file was used now, and goes later than others."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(place, (time.time(), place.stat().st_mtime))

    def trim(self) -> int:
        """The files together are no larger than the limit: those used longest ago are gone. Bytes removed."""
        files = sorted(self._files())
        total = sum(size for _, size, _ in files)
        if total <= self.limit_bytes:
            return 0
        removed = 0
        for _, size, path in files:
            if total - removed <= self.limit_bytes * _KEPT:
                break
            path.unlink(missing_ok=True)
            removed += size
        return removed

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """Time of the last use, size and path of each; parts that nobody writes any more go on the way."""
        for directory, _, names in os.walk(self.root):
            for name in names:
                path = Path(directory, name)
                with contextlib.suppress(FileNotFoundError):
                    stat = path.stat()
                    if not name.startswith(_PART):
                        yield stat.st_atime, stat.st_size, path
                    elif time.time() - stat.st_mtime > _ABANDONED_S:
                        path.unlink()
