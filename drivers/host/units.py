"""systemd units of a host: enabled and running with the configuration of now, and put back."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Sequence

from pydantic import BaseModel, ConfigDict

from drivers.host.script import run_function
from levier.domain.errors import DriverError, MalformedReply, Rejected
from levier.domain.ssh import RemoteHost

_TIMEOUT_S = 240.0
_SLACK_S = 0.1
"""Two clocks of one host are read one after the other."""
_ENABLED = frozenset({"enabled", "enabled-runtime"})
_STOPPED = frozenset({"inactive", "failed"})
_FAILED_LINES = 15
_COMPLAINTS = 4
_COMPLAINT_LENGTH = 300
_JOURNAL_LINE = re.compile(r"(?P<at>\d+)\.\d+ \S+ (?P<words>.+)")
"""As journalctl's short-unix writes it."""


class UnitState(BaseModel):
    """How a unit stands. JSON-serialisable."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    enabled: bool
    active: bool
    known: bool
    """There is such a unit."""
    age_s: float
    """Seconds since it became active; without meaning unless it is."""
    stopped: bool = False
    """It neither runs nor is about to: one that starts, or waits to be started again, is not stopped."""
    invocation: str = ""
    """Another one with every start (systemd.exec(5), INVOCATION_ID)."""


def observe_units(host: RemoteHost, units: Sequence[str]) -> tuple[UnitState, ...]:
    """How the units stand, in the order given. Safe to repeat."""
    lines = _run(host, f"observe {shlex.join(units)}")
    if len(lines) != len(units):
        raise MalformedReply(f"the host told the state of {len(lines)} of {len(units)} units", hint="Ask it again.")
    return tuple(_state(line) for line in lines)


def ensure_running(
    host: RemoteHost, units: Sequence[str], *, files: Iterable[str] = (), steady: Collection[str] = ()
) -> tuple[str, ...]:
    """Every unit is enabled and active, and became so after `files` were written; those that were (re)started.

    Those of them that are `steady` do not read the files: such a one runs on, however old. Safe to repeat: a unit that
    runs with its configuration of now is left alone. Raises Rejected with the end of its journal when a unit does not
    come up.
    """
    changed_s = _newest(host, files, "Y")
    host.run("systemctl daemon-reload", timeout_s=_TIMEOUT_S)
    started = []
    for state in observe_units(host, units):
        if not state.enabled:
            host.run(f"systemctl enable --quiet -- {shlex.quote(state.name)}", timeout_s=_TIMEOUT_S)
        stale = state.name not in steady and state.age_s + _SLACK_S > changed_s
        if not state.active or stale:
            _start(host, state.name)
            started.append(state.name)
    return tuple(started)


def stop_again(host: RemoteHost, before: Sequence[UnitState]) -> tuple[str, ...]:
    """The units are enabled as `before`, and none runs that did not then, or that was started again since.

    Those that were changed, last one first. One that was started again runs with a configuration that goes next:
    `run_again` starts it with the earlier one. Safe to repeat.
    """
    changed = []
    now = {state.name: state for state in observe_units(host, [each.name for each in before])}
    for old in reversed(before):
        name, present = shlex.quote(old.name), now[old.name]
        if not present.stopped and not (old.active and present.invocation == old.invocation):
            host.run(f"systemctl stop -- {name}", timeout_s=_TIMEOUT_S)
            changed.append(old.name)
        if present.enabled != old.enabled and present.known:
            verb = "enable" if old.enabled else "disable"
            host.run(f"systemctl {verb} --quiet -- {name}", timeout_s=_TIMEOUT_S)
            changed.append(old.name)
        host.run(f"systemctl reset-failed -- {name}", check=False)
    return tuple(dict.fromkeys(changed))


def run_again(host: RemoteHost, before: Sequence[UnitState], *, files: Iterable[str] = ()) -> tuple[str, ...]:
    """The units that ran `before` run, with `files` as they are in their places now; those that were started.

    One that was not started again since has what it read then, and is left alone. Safe to repeat. Raises Rejected with
    the end of its journal when a unit does not come up.
    """
    host.run("systemctl daemon-reload", timeout_s=_TIMEOUT_S)
    placed_s = _newest(host, files, "Z")
    started = []
    now = {state.name: state for state in observe_units(host, [each.name for each in before])}
    for old in (each for each in before if each.active and now[each.name].known):
        present = now[old.name]
        older = present.invocation != old.invocation and present.age_s + _SLACK_S > placed_s
        if not present.active or older:
            _start(host, old.name)
            started.append(old.name)
    return tuple(started)


def complaints(host: RemoteHost, units: Sequence[str]) -> str:
    """What the units' programs complained of last, in one line; how often they were started again where they were.

    For an error's message, and therefore why not, where the host does not tell. A complaint is a line that oslo.log
    wrote as ERROR or CRITICAL; without any, it is what they said last and when. Safe to repeat.
    """
    chosen = " ".join(f"--unit {shlex.quote(unit)}" for unit in units)
    script = (
        f"journalctl {chosen} --lines 2000 --no-pager --output cat "
        # Without the program's module and the request; lines of a traceback are indented behind them.
        r"| sed -nE 's/^.* (ERROR|CRITICAL) [^ ]+ (\[[^]]*\] )*([^][ ].*[^ ]) *$/\3/p' | grep -v ^Traceback "
        f"| tail -n {_COMPLAINTS} | cut -c -{_COMPLAINT_LENGTH} | paste -sd '|'"
    )
    try:
        again = host.run(f"systemctl show --property NRestarts --value -- {shlex.join(units)}", check=False)
        said = host.run(script, check=False).stdout.strip() or _last_said(host, chosen)
    except DriverError as error:
        return f"the journal cannot be read: {error}"
    times = sum(int(number) for number in again.stdout.split() if number.isdigit())
    return f"started again {times} times; {said}" if times else said


def _last_said(host: RemoteHost, chosen: str) -> str:
    """The units' last line and its age: it shows how far a program came that hangs, or that is slow."""
    script = f"date +%s; journalctl {chosen} --lines 1 --no-pager --output short-unix"
    now, _, line = host.run(script, check=False).stdout.strip().partition("\n")
    seen = _JOURNAL_LINE.fullmatch(line)
    if seen is None:
        return "no complaint in the journal"
    age_s = max(int(now) - int(seen["at"]), 0)
    return f"no complaint in the journal, whose last line is {age_s} s old: {seen['words'][:_COMPLAINT_LENGTH]}"


def _start(host: RemoteHost, unit: str) -> None:
    """The unit was started anew and is active. A failed one is started again: its limit of attempts is forgotten."""
    name = shlex.quote(unit)
    result = host.run(
        f"systemctl reset-failed -- {name} 2>/dev/null; systemctl restart -- {name}", timeout_s=_TIMEOUT_S, check=False
    )
    if result.exit_status:
        journal = host.run(f"journalctl --unit {name} --lines {_FAILED_LINES} --output cat --no-pager", check=False)
        last = " | ".join(line.strip() for line in journal.stdout.splitlines()[-_FAILED_LINES:] if line.strip())
        raise Rejected(
            f"{unit} does not start: {last or result.stderr.strip()}",
            hint=f"on the host: systemctl status {unit}; journalctl -u {unit}",
        )


def _newest(host: RemoteHost, files: Iterable[str], what: str) -> float:
    """Seconds since the newest of the files was written (`what` Y) or put in its place (Z)."""
    paths = list(files)
    return float(_run(host, f"newest {what} {shlex.join(paths)}")[0]) if paths else float("inf")


def _state(line: str) -> UnitState:
    try:
        name, file, active, age_s, invocation = line.split(" ")
        return UnitState(
            name=name,
            enabled=file in _ENABLED,
            active=active == "active",
            known=file != "absent",
            age_s=float(age_s),
            stopped=active in _STOPPED,
            invocation=invocation,
        )
    except ValueError as error:
        raise MalformedReply(f"the state of a unit cannot be read: {line!r}", hint="Ask the host again.") from error


def _run(host: RemoteHost, call: str) -> list[str]:
    return run_function(host, "units.sh", call, timeout_s=_TIMEOUT_S)
