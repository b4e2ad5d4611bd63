"""Programs inside a build root: without network, without privileges, and gone with their starter.

Source distributions run code of strangers when they are compiled.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from drivers.artifacts.command import run_tool
from levier.domain.errors import Rejected

BUILDER_UID = 65534
"""Debian's `nobody`: it owns nothing in the root but what it builds."""
_ENVIRONMENT = {
    # Debug information names the directory of the compilation, which is another one each time. Not all set-up code
    # lets the first of these have the last word.
    "CFLAGS": "-g0",
    "LDFLAGS": "-Wl,--strip-debug",
    "HOME": "/levier/home",
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "PYTHONHASHSEED": "0",
    "SOURCE_DATE_EPOCH": "315532800",  # 1980-01-01, the oldest time that a zip file, and so a wheel, can hold
    "TMPDIR": "/levier/home",
    "UV_CACHE_DIR": "/levier/cache",
    "UV_NO_CONFIG": "1",
    "UV_OFFLINE": "1",
    "UV_PYTHON_DOWNLOADS": "never",
}
_ELF = b"\x7fELF"
_LOADED = re.compile(r"^\s+(\S+) => (\S.*?)(?: \(0x[0-9a-f]+\))?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The build root unpacked at `root`."""

    root: Path

    def inside(self, path: str | PurePosixPath) -> Path:
        """Where this machine sees a path of the root."""
        return self.root / str(path).lstrip("/")

    def make_directory(self, path: str, *, owner: int = BUILDER_UID) -> Path:
        """A directory of the root that the builder may write, unless it is another's; parents are root's."""
        place = self.inside(path)
        for each in (*reversed(place.parents), place):
            if not each.exists():
                each.mkdir()
                each.chmod(0o755)  # whatever the umask
        os.chown(place, owner, owner)
        return place

    def add(self, source: Path, path: str, *, mode: int = 0o644) -> None:
        """A copy of the file `source` is in the root, readable by the builder."""
        shutil.copyfile(source, self.inside(path))
        self.inside(path).chmod(mode)

    def write(self, path: str, text: str) -> None:
        """A file of the root has this text, and the builder may read it."""
        self.inside(path).write_text(text, encoding="utf-8")
        self.inside(path).chmod(0o644)

    def run(self, command: Sequence[str], *, timeout_s: float, env: Mapping[str, str] | None = None) -> str:
        """The program ended well in the root; its output. Raises Rejected with the end of its output, OutcomeUnknown.

        It runs as nobody with no way to become more, sees no other process, and has no network, not even loopback.
        """
        own = ["unshare", "--mount", "--pid", "--net", "--ipc", "--fork", "--kill-child"]
        confined = ["setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all,+setuid,+setgid,+sys_chroot"]
        user = f"{BUILDER_UID}:{BUILDER_UID}"
        entry = ["chroot", f"--userspec={user}", "--groups=", str(self.root), *command]
        environment = {**_ENVIRONMENT, **(env or {})}
        mounts = [*own, f"--mount-proc={self.root / 'proc'}"]
        return run_tool([*mounts, *confined, *entry], timeout_s=timeout_s, env=environment)


def elf_files(directory: Path) -> list[Path]:
    """Programs and libraries of the machine below `directory`."""
    found = []
    for path in sorted(directory.rglob("*")):
        if path.is_file() and not path.is_symlink() and (path.suffix == ".so" or ".so." in path.name or _runs(path)):
            with path.open("rb") as stream:
                if stream.read(4) == _ELF:
                    found.append(path)
    return found


def _runs(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o111)


def os_packages(sandbox: Sandbox, location: str) -> tuple[str, ...]:
    """Packages of the operating system whose libraries the programs below `location` load.

    Raises Rejected naming every program that lacks a library: it would fail on a host just as here.
    """
    files = elf_files(sandbox.inside(location))
    if not files:
        return ()
    paths = [f"/{path.relative_to(sandbox.root)}" for path in files]
    # ldd ends with an error when one of the files is no dynamic program; what it cannot find is in its output.
    listing = sandbox.run(["sh", "-c", 'ldd "$@" || true', "ldd", *paths], timeout_s=120)
    # A library that a wheel brings along is found through the one that loads it, not by looking at its neighbour alone.
    brought = {path.name for path in files}
    lacking = {name for name, found in _LOADED.findall(listing) if found == "not found"} - brought
    if lacking:
        names = ", ".join(sorted(lacking))
        raise Rejected(
            f"programs of the bundle load libraries that neither it nor the build root has: {names}",
            hint="name the Debian package in `build_os_packages` of the release",
        )
    libraries = {
        found
        for _name, found in _LOADED.findall(listing)
        if found.startswith("/") and not found.startswith(f"{location}/")
    }
    return _owners(sandbox, libraries)


def _owners(sandbox: Sandbox, libraries: Iterable[str]) -> tuple[str, ...]:
    patterns = [f"*/{PurePosixPath(library).name}" for library in sorted(libraries)]
    if not patterns:
        return ()
    listing = run_tool(["dpkg-query", f"--admindir={sandbox.root}/var/lib/dpkg", "--search", *patterns], timeout_s=60)
    return tuple(sorted({line.split(":", 1)[0] for line in listing.splitlines() if ": /" in line}))
