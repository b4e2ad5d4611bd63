"""A baseline put in force, and taken back: files first, then their effects, the revision marker last."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pydantic import BaseModel, ConfigDict

from drivers.baseline.effects import (
    SysctlRefusal,
    check_preconditions,
    differing,
    put_sysctls_back,
    put_time_sync_back,
    set_hostname,
    set_sysctls,
    set_time_sync,
)
from drivers.baseline.render import LOCALTIME, REVISION, TIMESYNCD, FileKind, render_baseline
from drivers.baseline.spec import BaselineSpec
from drivers.baseline.state import BaselineState, FileState, ancestors, observe, observe_baseline, state_of
from levier.domain.errors import Rejected
from levier.domain.ssh import RemoteHost

_PRIVATE_DIRECTORIES = frozenset({"/root/.ssh"})


class AppliedBaseline(BaseModel):
    """What applying did, and the state to return to. JSON-serialisable, no secret in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    changed: tuple[str, ...]
    """Paths that were written or removed."""
    effects: tuple[str, ...]
    """Changes of the running system: `hostname`, `sysctl net/ipv4/ip_forward`, `systemd-timesyncd restarted`."""
    refused: tuple[SysctlRefusal, ...]
    """Optional kernel settings that the kernel refused."""
    previous: BaselineState

    @property
    def unchanged(self) -> bool:
        """The host already was as wanted."""
        return not self.changed and not self.effects


def apply_baseline(host: RemoteHost, spec: BaselineSpec, *, previous: BaselineState | None = None) -> AppliedBaseline:
    """Files, host name, kernel settings and time synchronisation are as `spec` wants.

    Safe to repeat: a second run changes nothing, and a run after an interrupted one completes it, because effects
    follow what is in force and not what was just written. While anything differs the revision marker is absent.
    `previous` is handed through for a caller that stored the earlier state before; otherwise it is observed here.
    Raises Rejected for an unknown time zone or missing software (before anything is touched), and for a kernel
    setting that is refused and not optional.
    """
    now = observe_baseline(host, spec)
    wanted = tuple(state_of(file) for file in render_baseline(spec))
    settings = differing(spec.sysctls, now)
    check_preconditions(spec, now)
    _require_time_zone(host, now, wanted)
    pending = now.hostname != spec.hostname or not all(setting.optional for setting in settings)
    effects: list[str] = []
    with _files_put(host, now=now, wanted=wanted, pending=pending) as changed:
        if now.hostname != spec.hostname:
            set_hostname(host, spec.hostname)
            effects.append("hostname")
        outcome = set_sysctls(host, settings)
        effects += [f"sysctl {path}" for path in outcome.changed]
        rewritten = TIMESYNCD in changed
        effects += set_time_sync(host, now.time_sync, servers=spec.ntp_servers, rewritten=rewritten)
    return AppliedBaseline(changed=changed, effects=tuple(effects), refused=outcome.refused, previous=previous or now)


def restore_baseline(host: RemoteHost, previous: BaselineState) -> tuple[str, ...]:
    """The host is as `previous` says: the undo of applying, complete or not. Returns what was changed. Safe to repeat.

    Directories that did not exist then are removed if they are empty. Raises Rejected when the kernel refuses an
    earlier value.
    """
    paths = [state.path for state in previous.files]
    now = observe(host, paths=paths, sysctl_paths=[state.path for state in previous.sysctls])
    effects: list[str] = []
    with _files_put(host, now=now, wanted=previous.files, pending=now.hostname != previous.hostname) as changed:
        if now.hostname != previous.hostname:
            set_hostname(host, previous.hostname)
            effects.append("hostname")
        effects += [f"sysctl {path}" for path in put_sysctls_back(host, previous.sysctls, now)]
        effects += put_time_sync_back(host, previous.time_sync, now.time_sync)
    made = [path for path in previous.missing_directories if path not in now.missing_directories]
    if made:
        # Inner ones first; one that holds something else by now stays.
        host.run("; ".join(f"rmdir -- {shlex.quote(path)} 2>/dev/null" for path in reversed(made)), check=False)
    return (*changed, *effects)


@contextmanager
def _files_put(
    host: RemoteHost, *, now: BaselineState, wanted: Sequence[FileState], pending: bool
) -> Iterator[tuple[str, ...]]:
    """All files but the marker are as wanted; the marker is absent during the body and put only if that succeeds.

    Yields the paths that differ from what is wanted, the marker's included.
    """
    to_put = [state for state in wanted if not now.file(state.path).same_as(state)]
    moving = pending or bool(to_put)
    if moving and now.file(REVISION).kind is not FileKind.ABSENT:
        host.remove(REVISION)
    _make_directories(host, to_put, missing=now.missing_directories)
    for state in to_put:
        if state.path != REVISION:
            _put(host, state)
    yield tuple(state.path for state in to_put)
    if moving:
        _put(host, next(state for state in wanted if state.path == REVISION))


def _put(host: RemoteHost, state: FileState) -> None:
    match state.kind:
        case FileKind.FILE:
            host.upload(state.content, state.path, mode=state.mode, owner=state.owner, group=state.group)
        case FileKind.ABSENT:
            host.remove(state.path)
        case FileKind.LINK:
            target, path = shlex.quote(state.content.decode()), shlex.quote(state.path)
            # A link cannot be retargeted in place: a new one takes its place in one step.
            host.run(f"ln -sfT -- {target} {path}.levier-new && mv -fT -- {path}.levier-new {path}")


def _make_directories(host: RemoteHost, to_put: Sequence[FileState], *, missing: tuple[str, ...]) -> None:
    needed = [path for path in ancestors(s.path for s in to_put if s.kind is not FileKind.ABSENT) if path in missing]
    if needed:
        modes = {path: "0700" if path in _PRIVATE_DIRECTORIES else "0755" for path in needed}
        host.run(" && ".join(f"install -d -m {mode} -- {shlex.quote(path)}" for path, mode in modes.items()))


def _require_time_zone(host: RemoteHost, now: BaselineState, wanted: Sequence[FileState]) -> None:
    zone = next(state for state in wanted if state.path == LOCALTIME)
    if now.file(LOCALTIME).same_as(zone):
        return
    target = zone.content.decode()
    if host.run(f"test -f {shlex.quote(target)}", check=False).exit_status:
        raise Rejected(
            f"the host has no time zone file {target}",
            hint="Correct the time zone's name, or install tzdata (Debian 13: also tzdata-legacy for old names).",
        )
