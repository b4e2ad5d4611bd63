"""Users, directories and files of a host put in place, and the earlier ones put back.

Files hold secrets, so the state before is kept on the host itself, readable by root only; a step's checkpoint knows the
place. Putting back what was kept removes it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field

from drivers.host.script import run_function
from levier.domain.errors import InvalidRequest
from levier.domain.ssh import RemoteHost

KEPT = "/var/lib/levier/kept"
"""Where hosts keep what was there before."""
_TIMEOUT_S = 120.0


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class User(_Frozen):
    """A system user, with a group of the same name."""

    name: str
    groups: tuple[str, ...] = ()
    home: str = "/nonexistent"
    shell: str = "/usr/sbin/nologin"


class Directory(_Frozen):
    """A directory. Its parents exist, or come before it."""

    path: str
    owner: str = "root"
    group: str = "root"
    mode: int = 0o755


class File(_Frozen):
    """A file as it shall be. Its content may be secret and is not shown."""

    path: str
    content: bytes = Field(repr=False)
    owner: str = "root"
    group: str = "root"
    mode: int = 0o644


class HostConfiguration(_Frozen):
    """What is put in place together."""

    users: tuple[User, ...] = ()
    directories: tuple[Directory, ...] = ()
    files: tuple[File, ...] = ()


def keep(host: RemoteHost, wanted: HostConfiguration, *, name: str) -> str:
    """What `wanted` will replace is kept on the host as `name`; the place. What was kept before stays. Safe to repeat.

    Raises Rejected when something is in the way that is neither a file nor a link.
    """
    place = f"{KEPT}/{name}"
    lines = [
        *(f"user {each.name}" for each in wanted.users),
        *(f"directory {each.path}" for each in wanted.directories),
        *(f"file {each.path}" for each in wanted.files),
    ]
    _run(host, f"keep {shlex.quote(place)}", lines)
    return place


def put(host: RemoteHost, wanted: HostConfiguration) -> tuple[str, ...]:
    """Users, directories and files are as wanted; what was changed, in words. Safe to repeat: then nothing is."""
    lines = [
        *(f"user {u.home} {u.shell} {','.join(u.groups) or '-'} {u.name}" for u in wanted.users),
        *(f"directory {d.mode:04o} {d.owner} {d.group} {d.path}" for d in wanted.directories),
    ]
    changed = dict.fromkeys(_run(host, "put", lines))
    for file in wanted.files:
        if host.upload(file.content, file.path, mode=file.mode, owner=file.owner, group=file.group):
            changed[file.path] = None
    return tuple(changed)


def put_back(host: RemoteHost, *, name: str) -> tuple[str, ...]:
    """What was kept under `name` is in its place again, and no longer kept; what was changed. Safe to repeat.

    What is as it was kept is left alone.
    """
    return tuple(_run(host, f"put_back {shlex.quote(f'{KEPT}/{name}')}", []))


def forget_unchanged(host: RemoteHost, *, name: str) -> None:
    """Nothing is kept under `name` if everything is as it was kept: there is nothing to put back. Safe to repeat."""
    _run(host, f"forget_unchanged {shlex.quote(f'{KEPT}/{name}')}", [])


def forget(host: RemoteHost, file: str) -> None:
    """The file below `KEPT` is not there, nor what belongs to it, nor directories that held nothing else.

    Safe to repeat.
    """
    _run(host, f"forget {shlex.quote(file)}", [])


def _run(host: RemoteHost, call: str, lines: Iterable[str]) -> list[str]:
    given = list(lines)
    if any("\n" in line for line in given):
        raise InvalidRequest("a name holds a line break", hint="names of users, directories and files are one line")
    text = "".join(f"{line}\n" for line in given).encode()
    return run_function(host, "configuration.sh", call, timeout_s=_TIMEOUT_S, stdin=text)
