"""What a host's baseline is now: read in one round trip, comparable, and stored as the state to return to."""

from __future__ import annotations

import base64
import binascii
import posixpath
import shlex
from collections.abc import Iterable, Sequence
from importlib import resources

from pydantic import BaseModel, ConfigDict

from drivers.baseline.render import FileKind, RenderedFile, render_baseline
from drivers.baseline.spec import BaselineSpec
from levier.domain.errors import MalformedReply, Rejected
from levier.domain.ssh import RemoteHost

_TIMEOUT_S = 60.0


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")


class FileState(_Frozen):
    """What is at a path; `content` is the bytes of a file or the target of a link (base64 in JSON)."""

    path: str
    kind: FileKind
    content: bytes = b""
    mode: int = 0
    owner: str = ""
    group: str = ""

    def is_as(self, wanted: RenderedFile) -> bool:
        """Whether nothing need be done to get `wanted`; attributes count for files only."""
        return self.same_as(state_of(wanted))

    def same_as(self, other: FileState) -> bool:
        """Equal in everything that matters for its kind."""
        if self.kind is not other.kind or self.kind is FileKind.ABSENT:
            return self.kind is other.kind
        attributes = (self.mode, self.owner, self.group) == (other.mode, other.owner, other.group)
        return self.content == other.content and (attributes or self.kind is FileKind.LINK)


class SysctlState(_Frozen):
    """A kernel setting's value by its path below /proc/sys; None when the kernel has no such setting."""

    path: str
    value: str | None


class TimeSync(_Frozen):
    """Time synchronisation in force: `container` (the outer host keeps the time), `missing`, `inactive` or `active`."""

    status: str
    servers: tuple[str, ...] = ()


class BaselineState(_Frozen):
    """Everything that applying a baseline may change, as it was found. JSON-serialisable, no secret in it."""

    hostname: str
    files: tuple[FileState, ...]
    missing_directories: tuple[str, ...] = ()
    sysctls: tuple[SysctlState, ...] = ()
    time_sync: TimeSync

    def file(self, path: str) -> FileState:
        """The state of one path that was asked about."""
        return next(state for state in self.files if state.path == path)

    def sysctl(self, path: str) -> str | None:
        """The value of one setting that was asked about, with single spaces."""
        return next((state.value for state in self.sysctls if state.path == path), None)


def state_of(wanted: RenderedFile) -> FileState:
    """A rendered file as the state that a host should be found in."""
    if wanted.kind is FileKind.ABSENT:
        return FileState(path=wanted.path, kind=FileKind.ABSENT)
    return FileState(
        path=wanted.path,
        kind=wanted.kind,
        content=wanted.content.encode(),
        mode=wanted.mode,
        owner=wanted.owner,
        group=wanted.group,
    )


def one_line(value: str) -> str:
    """The kernel separates numbers by tabs, people by spaces: both mean the same."""
    return " ".join(value.split())


def observe_baseline(host: RemoteHost, spec: BaselineSpec) -> BaselineState:
    """The present state of all that `spec` would change: the state to return to, if taken before applying.

    Safe to repeat. Raises Rejected when a managed path is a directory or a device; MalformedReply when
    the answer cannot be read.
    """
    paths = [file.path for file in render_baseline(spec)]
    return observe(host, paths=paths, sysctl_paths=[setting.proc_path for setting in spec.sysctls])


def observe(host: RemoteHost, *, paths: Sequence[str], sysctl_paths: Sequence[str]) -> BaselineState:
    """The present state of the given paths and settings, in one round trip. Safe to repeat."""
    directories = ancestors(paths)
    calls = [
        *(f"file {shlex.quote(path)}" for path in paths),
        *(f"directory {shlex.quote(path)}" for path in directories),
        *(f"setting {shlex.quote(path)}" for path in sysctl_paths),
        "host_name",
        "time_sync",
        "",
    ]
    functions = resources.files("drivers.baseline").joinpath("observe.sh").read_text(encoding="utf-8")
    lines = host.run(functions + "\n".join(calls), timeout_s=_TIMEOUT_S).stdout.splitlines()
    if len(lines) != len(calls) - 1:
        raise MalformedReply(
            f"the host answered {len(lines)} of {len(calls) - 1} questions about its baseline",
            hint="Check that coreutils and systemd are whole there.",
        )
    rest = iter(lines)
    return BaselineState(
        files=tuple(_file_state(path, next(rest)) for path in paths),
        missing_directories=tuple(path for path in directories if next(rest) == "directory absent"),
        sysctls=tuple(SysctlState(path=path, value=_setting(next(rest))) for path in sysctl_paths),
        hostname=next(rest).partition(" ")[2],
        time_sync=_time_sync(next(rest).split()[1:]),
    )


def ancestors(paths: Iterable[str]) -> list[str]:
    """All directories above the paths but the root, outer ones first."""
    found: set[str] = set()
    for path in paths:
        while (path := posixpath.dirname(path)) != "/":
            found.add(path)
    return sorted(found)


def _file_state(path: str, line: str) -> FileState:
    words = line.split(" ")
    if words[1] == "other":
        raise Rejected(f"{path} is neither a file nor a link", hint="Move it out of the way on the host.")
    kind = FileKind(words[1])
    if kind is FileKind.ABSENT:
        return FileState(path=path, kind=kind)
    try:
        mode, owner, group, content = words[2:6]
        decoded = base64.b64decode(content, validate=True)
        return FileState(
            path=path, kind=kind, content=decoded, mode=int(mode, 8), owner=_name(owner), group=_name(group)
        )
    except (ValueError, binascii.Error) as error:
        raise MalformedReply(f"the state of {path} cannot be read: {error}", hint="Observe it again.") from error


def _name(pair: str) -> str:
    """`NAME:ID` as the name, or as the id where stat(1) knows no name."""
    name, _, number = pair.partition(":")
    return number if name == "UNKNOWN" else name


def _setting(line: str) -> str | None:
    words = line.split(" ")
    return one_line(base64.b64decode(words[2]).decode("utf-8", "replace")) if words[1] == "value" else None


def _time_sync(words: list[str]) -> TimeSync:
    return TimeSync(status=words[0], servers=tuple(words[1:]))
