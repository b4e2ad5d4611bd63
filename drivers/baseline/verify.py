"""Whether a host is what its baseline says: files and what is in force, read again."""

from __future__ import annotations

import hashlib
import json
import shlex

from pydantic import BaseModel, ConfigDict

from drivers.baseline.effects import differing
from drivers.baseline.render import AUTHORIZED_KEYS, REVISION, ZONEINFO, FileKind, render_baseline
from drivers.baseline.spec import BaselineSpec
from drivers.baseline.state import BaselineState, FileState, observe_baseline, state_of
from levier.domain.errors import MalformedReply
from levier.domain.ssh import RemoteHost


class Deviation(BaseModel):
    """One thing that is not as wanted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: str
    """A path, `hostname`, `fqdn`, `timezone`, `authorized keys`, `time synchronisation` or `sysctl KEY`."""
    wanted: str
    found: str

    def __str__(self) -> str:
        return f"{self.subject}: wanted {self.wanted}, found {self.found}"


class AppliedRevision(BaseModel):
    """The marker on a host: the revision that was applied completely, and the digest of its configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    revision: int
    spec_sha256: str


def verify_baseline(host: RemoteHost, spec: BaselineSpec) -> tuple[Deviation, ...]:
    """Everything in which the host differs from `spec`; empty when it is as wanted. Changes nothing, safe to repeat.

    Optional kernel settings are not looked at. Raises what `observe_baseline` raises.
    """
    now = observe_baseline(host, spec)
    return (
        *_files(now, spec),
        *_in_force(host, now, spec),
        *_sysctls(now, spec),
        *_time_sync(now, spec),
    )


def read_revision(host: RemoteHost) -> AppliedRevision | None:
    """The revision that this host carries; None when none was applied, or one is half-way. Safe to repeat.

    Raises MalformedReply when the marker was not written by Levier.
    """
    stat = host.download(REVISION)
    if stat is None:
        return None
    try:
        return AppliedRevision.model_validate(json.loads(stat.content))
    except ValueError as error:
        raise MalformedReply(
            f"{REVISION} is not what Levier writes: {error}", hint="Apply the baseline again."
        ) from error


def _files(now: BaselineState, spec: BaselineSpec) -> list[Deviation]:
    pairs = [(state_of(file), now.file(file.path)) for file in render_baseline(spec)]
    return [
        Deviation(subject=wanted.path, wanted=_described(wanted), found=_described(found))
        for wanted, found in pairs
        if not found.same_as(wanted)
    ]


def _described(state: FileState) -> str:
    match state.kind:
        case FileKind.ABSENT:
            return "nothing"
        case FileKind.LINK:
            return f"a link to {state.content.decode('utf-8', 'replace')}"
        case FileKind.FILE:
            digest = hashlib.sha256(state.content).hexdigest()
            return f"sha256 {digest[:16]}… {state.mode:04o} {state.owner}:{state.group}"


def _in_force(host: RemoteHost, now: BaselineState, spec: BaselineSpec) -> list[Deviation]:
    """What programs on the host really get, whatever the files say."""
    questions = (
        "export PATH=$PATH:/usr/sbin:/sbin; hostname --fqdn 2>/dev/null || echo none; "
        f"readlink -f /etc/localtime; readlink -f {shlex.quote(f'{ZONEINFO}/{spec.timezone}')}; "
        "sshd -T -C user=root,host=localhost,addr=127.0.0.1 2>/dev/null | sed -n 's/^authorizedkeysfile //p'"
    )
    fqdn, zone, wanted_zone, *keys = [*host.run(questions).stdout.splitlines(), "none"][:4]
    compared = [("hostname", spec.hostname, now.hostname), ("fqdn", spec.fqdn, fqdn), ("timezone", wanted_zone, zone)]
    found = [Deviation(subject=s, wanted=wanted, found=actual) for s, wanted, actual in compared if wanted != actual]
    home_relative = AUTHORIZED_KEYS.removeprefix("/root/")
    if spec.operator_keys and not {home_relative, f"%h/{home_relative}", AUTHORIZED_KEYS} & set(keys[0].split()):
        found.append(Deviation(subject="authorized keys", wanted=f"sshd reads {home_relative}", found=keys[0]))
    return found


def _sysctls(now: BaselineState, spec: BaselineSpec) -> list[Deviation]:
    return [
        Deviation(subject=f"sysctl {s.key}", wanted=s.value, found=now.sysctl(s.proc_path) or "none")
        for s in differing(spec.sysctls, now)
        if not s.optional
    ]


def _time_sync(now: BaselineState, spec: BaselineSpec) -> list[Deviation]:
    sync = now.time_sync
    if not spec.ntp_servers or sync.status == "container":
        return []
    if sync.status == "active" and sync.servers == spec.ntp_servers:
        return []
    wanted = f"active {' '.join(spec.ntp_servers)}"
    return [Deviation(subject="time synchronisation", wanted=wanted, found=f"{sync.status} {' '.join(sync.servers)}")]
