"""What a baseline changes in the running system beside its files: host name, kernel settings, time synchronisation."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources

from pydantic import BaseModel, ConfigDict

from drivers.baseline.spec import BaselineSpec, SysctlSetting
from drivers.baseline.state import BaselineState, SysctlState, TimeSync, one_line
from levier.domain.errors import MalformedReply, Rejected
from levier.domain.ssh import RemoteHost

_TIMESYNCD = "systemd-timesyncd.service"


class SysctlRefusal(BaseModel):
    """A kernel setting that kept another value, and why. `actual` is None when there is no such setting."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    wanted: str
    actual: str | None
    reason: str

    def __str__(self) -> str:
        state = "does not exist" if self.actual is None else f"stays {self.actual!r}"
        return f"{self.key} = {self.wanted!r} refused ({self.reason}), {state}"


@dataclass(frozen=True, slots=True)
class SysctlOutcome:
    """What became of the settings: the paths that were changed, and the optional ones that were refused."""

    changed: tuple[str, ...]
    refused: tuple[SysctlRefusal, ...]


def check_preconditions(spec: BaselineSpec, now: BaselineState) -> None:
    """The host has what `spec` needs; nothing was touched. Raises Rejected naming everything that is missing."""
    missing = [
        f"the kernel setting {setting.key} does not exist"
        for setting in spec.sysctls
        if not setting.optional and now.sysctl(setting.proc_path) is None
    ]
    if spec.ntp_servers and now.time_sync.status == "missing":
        missing.append("systemd-timesyncd is not installed")
    if missing:
        raise Rejected(
            f"the baseline needs what the host lacks: {'; '.join(missing)}",
            hint="Load the kernel module or install the package in the image, or mark the setting optional.",
        )


def set_hostname(host: RemoteHost, name: str) -> None:
    """The kernel's host name is `name`. Safe to repeat."""
    host.run(f"hostname -- {shlex.quote(name)}")


def differing(settings: Iterable[SysctlSetting], now: BaselineState) -> tuple[SysctlSetting, ...]:
    """The settings whose value in force is another."""
    return tuple(setting for setting in settings if now.sysctl(setting.proc_path) != one_line(setting.value))


def set_sysctls(host: RemoteHost, settings: Sequence[SysctlSetting]) -> SysctlOutcome:
    """Each setting holds its value, read back, or is optional and reported as refused.

    Safe to repeat; nothing is sent for no settings. Raises Rejected naming every setting that
    was refused and is not optional; the others are in force then.
    """
    refusals = _write(host, [(setting.proc_path, setting.value) for setting in settings])
    refused = [
        SysctlRefusal(key=s.key, wanted=s.value, actual=refusals[s.proc_path][0], reason=refusals[s.proc_path][1])
        for s in settings
        if s.proc_path in refusals
    ]
    optional = {setting.key for setting in settings if setting.optional}
    if fatal := [str(refusal) for refusal in refused if refusal.key not in optional]:
        raise Rejected(
            f"the kernel refused: {'; '.join(fatal)}",
            hint="Correct the value, or mark the setting optional if the host can do without.",
        )
    changed = tuple(setting.proc_path for setting in settings if setting.proc_path not in refusals)
    return SysctlOutcome(changed=changed, refused=tuple(refused))


def put_sysctls_back(host: RemoteHost, earlier: Iterable[SysctlState], now: BaselineState) -> tuple[str, ...]:
    """Each setting holds its earlier value again; returns the paths that were changed. Safe to repeat.

    Raises Rejected when the kernel refuses an earlier value.
    """
    wanted = [(state.path, state.value) for state in earlier if state.value and state.value != now.sysctl(state.path)]
    if refusals := _write(host, wanted):
        told = "; ".join(f"{path} stays {actual!r} ({reason})" for path, (actual, reason) in refusals.items())
        raise Rejected(f"earlier kernel settings cannot be set again: {told}", hint="Reboot the host to drop them.")
    return tuple(path for path, _ in wanted)


def set_time_sync(host: RemoteHost, now: TimeSync, *, servers: tuple[str, ...], rewritten: bool) -> tuple[str, ...]:
    """systemd-timesyncd runs with `servers`; returns what was done. In a container nothing is: its host keeps the time.

    Safe to repeat. Raises Rejected when the service does not start.
    """
    if now.status in ("container", "missing"):
        return ()
    in_force = now.status == "active" and now.servers == servers
    if not rewritten and (in_force or not servers):
        return ()
    if now.status == "inactive" and not servers:
        return ()
    host.run(f"systemctl restart {_TIMESYNCD} && systemctl is-active --quiet {_TIMESYNCD}")
    return ("systemd-timesyncd restarted",)


def put_time_sync_back(host: RemoteHost, earlier: TimeSync, now: TimeSync) -> tuple[str, ...]:
    """systemd-timesyncd runs with its earlier servers, or does not run if it did not. Safe to repeat."""
    if earlier == now or now.status in ("container", "missing"):
        return ()
    verb = "restart" if earlier.status == "active" else "stop"
    host.run(f"systemctl {verb} {_TIMESYNCD}")
    return (f"systemd-timesyncd {verb}",)


def _write(host: RemoteHost, values: Sequence[tuple[str, str]]) -> dict[str, tuple[str | None, str]]:
    """Writes all values in one round trip; returns value and reason of those that do not hold what was written."""
    if not values:
        return {}
    functions = resources.files("drivers.baseline").joinpath("set_sysctl.sh").read_text(encoding="utf-8")
    calls = "\n".join(f"put {shlex.quote(path)} {shlex.quote(value)}" for path, value in values)
    lines = host.run(f"{functions}{calls}\n").stdout.splitlines()
    if len(lines) != len(values):
        raise MalformedReply(
            f"the host answered for {len(lines)} of {len(values)} kernel settings", hint="Read the settings again."
        )
    refused: dict[str, tuple[str | None, str]] = {}
    for (path, wanted), line in zip(values, lines, strict=True):
        existed, value, reason = (base64.b64decode(word).decode("utf-8", "replace").strip() for word in line.split(" "))
        if not existed or one_line(value) != one_line(wanted):
            actual = one_line(value) if existed else None
            refused[path] = (actual, reason.rpartition(": ")[2] or "the kernel keeps another value")
    return refused
