"""The world that the commands of one `stub` host run in: user, mount and UTS namespaces, which take no root.

Nothing runs in them between two commands: the daemon holds them open, and they end with it, however it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from levier.domain.errors import Rejected
from levier.lab.commands import SYSTEM_PATH
from levier.lab.stub.image import PROGRAMS

_KINDS = ("mnt", "uts")
_OPTIONS = {"user": "--user", "mnt": "--mount", "uts": "--uts"}
_ALL_IDS = 65536
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_HOST_DIRECTORIES = ("usr", "etc/alternatives")
"""What every stub host shares with this computer, read only."""
_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_KEPT_FLAGS = frozenset({"nosuid", "nodev", "noexec"})
"""A mount's flags that another user namespace may not take away (mount_namespaces(7)), so they are asked for again."""
ENVIRONMENT = {
    "PATH": f"/{PROGRAMS}:{SYSTEM_PATH}",
    "HOME": "/root",
    "USER": "root",
    "LOGNAME": "root",
    "SHELL": "/bin/sh",
}


@dataclass(frozen=True, slots=True)
class Place:
    """The directories of one host: its root, and what is found under /proc/sys."""

    root: Path
    sysctls: Path
    fstab: Path


class Namespaces:
    """The namespaces of one boot of one host, while they are held."""

    def __init__(self, user: UserNamespace, descriptors: dict[str, int]) -> None:
        self._user = user
        self._descriptors = descriptors

    def close(self) -> None:
        """They are held no longer: with the last process inside, mounts and host name are gone. Safe to repeat."""
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])

    def entering(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` as root inside, in a process-id namespace of its own.

        Whoever kills its process kills all that came of it; so does the end of the process that started it.
        """
        return [
            *self._user.entering(self._descriptors),
            # After entering: a change of credentials takes the parent-death signal away (prctl(2)).
            *("setpriv", "--pdeathsig", "KILL"),
            *("unshare", "--pid", "--fork", "--kill-child", "--", *argv),
        ]


class UserNamespace:
    """The user namespace of a whole rack. In it this process is root over what is its own anyway."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def entering(self, others: Mapping[str, int]) -> list[str]:
        """The beginning of a command line that enters it, and the other namespaces that are held open here."""
        own = f"/proc/{os.getpid()}/fd"
        held = {"user": self._descriptor, **others}
        return [
            *("nsenter", "--preserve-credentials"),
            *(f"{_OPTIONS[kind]}={own}/{descriptor}" for kind, descriptor in held.items()),
        ]


async def make_user_namespace() -> UserNamespace:
    """A user namespace in which this process' user is root; where that is root already, all its users are there, too.

    Raises Rejected where the kernel allows no such namespaces.
    """
    process = await asyncio.create_subprocess_exec(
        *("unshare", "--user", "--", "/bin/sh", "-c", "echo made; read -r _"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None  # noqa: S101 - asked for
    assert process.stderr is not None  # noqa: S101
    try:
        if await process.stdout.readline() != b"made\n":
            complaint = (await process.stderr.read()).decode(errors="replace").strip()
            raise Rejected(
                f"no user namespace can be made: {complaint}",
                hint="see sysctl user.max_user_namespaces and kernel.unprivileged_userns_clone",
            )
        _map_ids(Path(f"/proc/{process.pid}"))
        return UserNamespace(os.open(f"/proc/{process.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC))
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _map_ids(process: Path) -> None:
    """Source: user_namespaces(7). An unprivileged process may map itself alone, and must give up setgroups(2)."""
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):  # in a container that has fewer users
            for name in ("uid_map", "gid_map"):
                (process / name).write_text(f"0 0 {_ALL_IDS}\n", encoding="ascii")
            return
    (process / "setgroups").write_text("deny", encoding="ascii")
    (process / "uid_map").write_text(f"0 {os.geteuid()} 1\n", encoding="ascii")
    (process / "gid_map").write_text(f"0 {os.getegid()} 1\n", encoding="ascii")


async def make_namespaces(user: UserNamespace, place: Place, *, console: Path) -> Namespaces:
    """Fresh namespaces in which the host has booted. Raises Rejected when it could not; the console tells why."""
    _prepare(place)
    process = await _start_boot(user, place, console=console)
    assert process.stdout is not None  # noqa: S101 - asked for
    try:
        if await process.stdout.readline() != b"up\n":
            raise Rejected(f"the host's namespaces could not be made; see {console}")
        held = {kind: os.open(f"/proc/{process.pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in _KINDS}
        return Namespaces(user, held)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _start_boot(user: UserNamespace, place: Place, *, console: Path) -> asyncio.subprocess.Process:
    """The process that makes the namespaces, and stays inside until it is killed."""
    script = files("levier.lab.stub").joinpath("boot.sh").read_text(encoding="utf-8")
    with console.open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *user.entering({}),
            *("unshare", "--mount", "--uts", "--"),
            *("setpriv", "--pdeathsig", "KILL", "/bin/sh", "-c", script, "boot", str(place.fstab), str(place.root)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env={**ENVIRONMENT, "PATH": SYSTEM_PATH},
        )


def _prepare(place: Place) -> None:
    """The root has all the places that something is mounted on, and the table of mounts is written."""
    for name in _MERGED:
        here = Path("/", name)
        if here.is_symlink() and not (place.root / name).is_symlink():
            (place.root / name).symlink_to(os.readlink(here))
    lines = [_line(place.root, place.root, "bind")]
    shared = [name for name in (*_HOST_DIRECTORIES, *_MERGED) if _is_directory(Path("/", name))]
    for name in shared:
        (place.root / name).mkdir(parents=True, exist_ok=True)
        lines.append(_line(Path("/", name), place.root / name, ",".join(["rbind", "ro", *_flags_of(Path("/", name))])))
    lines.append(_line(Path("/proc"), place.root / "proc", "rbind"))
    lines.append(_line(place.sysctls, place.root / "proc/sys", "bind"))
    for name in ("dev/" + device for device in _DEVICES if Path("/dev", device).exists()):
        (place.root / name).touch()
        lines.append(_line(Path("/", name), place.root / name, "bind"))
    for name, goal in (("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        with contextlib.suppress(FileExistsError):
            (place.root / "dev" / name).symlink_to(f"/proc/self/{goal}")
    place.fstab.write_text("".join(lines), encoding="utf-8")


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _line(source: Path, target: Path, options: str) -> str:
    return f"{_escaped(source)} {_escaped(target)} none {options} 0 0\n"


def _escaped(path: Path) -> str:
    """A path as fstab(5) has it."""
    return str(path).replace("\\", "\\134").replace(" ", "\\040").replace("\t", "\\011")


def _flags_of(path: Path) -> list[str]:
    """The flags of the mount that `path` is on, as far as they must stay."""
    best, flags = "", list[str]()
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        words = line.split(" ")
        mount_point = words[4]
        if len(mount_point) >= len(best) and path.is_relative_to(mount_point):
            best, flags = mount_point, [flag for flag in words[5].split(",") if flag in _KEPT_FLAGS]
    return flags
