"""Bundles on a host, over SSH: unpacked side by side, put in use by one link per component.

A repeat finds what is there and changes nothing. Each call that changes something returns the state before, which is
what its undo needs.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from importlib import resources
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from levier.domain.errors import Busy, Conflict, LevierError, MalformedReply, Rejected, Unreachable
from levier.domain.release import ROOT, BundleManifest
from levier.domain.ssh import RemoteHost

UNPACK_TIMEOUT_S = 1800.0
"""For 140 MB over a slow link, and 47,000 files onto a slow disk."""
_TIMEOUT_S = 120.0
_REMOVE_TIMEOUT_S = 600.0
_NO_SUCH_PROGRAM = 127

_ERRORS: dict[str, tuple[type[LevierError], str]] = {
    "busy": (Busy, "wait until it is done"),
    "checksum": (Rejected, "build the release again: `levier release build` verifies what it keeps"),
    "in-the-way": (Conflict, "look at it on the host, and move it away"),
    "in-use": (Conflict, "point these components at another release first"),
    "missing": (Rejected, "install the packages on the host: `os_packages` of the bundle, and tar, zstd, coreutils"),
    "no-space": (Rejected, "remove releases that no component uses from the host, or give it a larger disk"),
    "not-served": (Rejected, "build the release: levier release build"),
    "not-unpacked": (Conflict, "unpack the release on the host first"),
    "refused": (Rejected, "look at the host"),
    "server-busy": (Busy, "wait, and try again"),
    "unreachable": (Unreachable, "look at the way from the host to Levier's boot service, and whether that runs"),
    "unsuitable": (Rejected, "build the release for the image that this host runs"),
}
"""What the work on the host can fail with: the error's class, and the way out."""


class Delivery(BaseModel):
    """How a bundle came to be unpacked. `was_present` False is what its undo removes. Sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    identity: str
    was_present: bool
    fetched_bytes: int
    resumed_bytes: int
    """Already there from an attempt that was interrupted."""
    duration_s: float


class HostBundles(BaseModel):
    """What is unpacked on a host, and which of it is in use."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    bundles: dict[str, BundleManifest]
    """By identity."""
    links: dict[str, str]
    """Component → identity."""


def observe(host: RemoteHost) -> HostBundles:
    """The complete bundles of the host and its links; nothing is changed. Raises MalformedReply, and as the driver."""
    answer, _ = _ask(host, {"action": "observe"}, timeout_s=_TIMEOUT_S)
    try:
        return HostBundles.model_validate(answer)
    except ValidationError as error:
        raise MalformedReply(
            f"the host's bundles cannot be read: {error.errors()[0]['msg']}",
            hint=f"look into {ROOT}/releases there",
        ) from error


def ensure_unpacked(
    host: RemoteHost, manifest: BundleManifest, url: str, *, timeout_s: float = UNPACK_TIMEOUT_S
) -> Delivery:
    """The bundle is unpacked at `manifest.location`, complete, verified and flushed to disk.

    It is fetched from `url` with its digest checked before it is unpacked; an interrupted fetch is gone on with. Safe
    to repeat. Undone by `ensure_absent`, if it was not there before. Raises, with nothing left but a resumable part:
    Rejected (no space, wrong checksum, host unsuitable, tool or library missing, bundle not served), Unreachable (the
    host does not reach the server), Busy (somebody else is at it), Conflict (something else is in the way), and as the
    driver does.
    """
    request = {
        "action": "unpack",
        "identity": manifest.identity,
        "manifest": manifest.model_dump(mode="json"),
        "url": url,
    }
    answer, duration_s = _ask(host, request, timeout_s=timeout_s)
    try:
        return Delivery(identity=manifest.identity, duration_s=duration_s, **answer)
    except (TypeError, ValidationError) as error:
        raise MalformedReply(f"the host's answer cannot be understood: {answer}") from error


def ensure_absent(host: RemoteHost, identity: str, *, wait_s: float = UNPACK_TIMEOUT_S) -> bool:
    """The bundle is not on the host; whether it was. Safe to repeat.

    An unpacking that goes on there, of a worker that died, is waited for. Raises Conflict while a link points to the
    bundle; Busy when somebody is at it still after `wait_s`.
    """
    return bool(_removal(host, {"action": "absent", "identity": identity}, wait_s)["was_present"])


def ensure_only(host: RemoteHost, identities: Iterable[str], *, wait_s: float = UNPACK_TIMEOUT_S) -> tuple[str, ...]:
    """No bundle is on the host but those of `identities` and those in use, nor a part of one; which were removed.

    For the undo of an `ensure_unpacked` whose outcome is open: nobody knows what it unpacked, and whether it goes on.
    It is waited for. Safe to repeat. Raises Busy when it is at it still after `wait_s`.
    """
    return tuple(_removal(host, {"action": "only", "identities": sorted(identities)}, wait_s)["removed"])


def _removal(host: RemoteHost, request: dict[str, Any], wait_s: float) -> dict[str, Any]:
    """Only who removes waits: an unpacking that waited, of a worker that died meanwhile, would come after its undo."""
    answer, _ = _ask(host, {**request, "wait_s": wait_s}, timeout_s=_REMOVE_TIMEOUT_S + wait_s)
    return answer


def link(component: str) -> str:
    """Where a component's link to its release is on a host."""
    return f"{ROOT}/current/{component}"


def current(host: RemoteHost, component: str) -> str | None:
    """Identity of the bundle that `component` uses; None when it uses none."""
    return observe(host).links.get(component)


def ensure_current(host: RemoteHost, component: str, identity: str | None) -> str | None:
    """The link `/opt/levier/current/<component>` points to that bundle (None: there is no link); what it was before.

    One atomic rename: whoever starts a program through it gets the old or the new. Calling it with what it returned is
    its undo. Safe to repeat. Raises Conflict when the bundle is not unpacked.
    """
    answer, _ = _ask(host, {"action": "turn", "component": component, "identity": identity}, timeout_s=_TIMEOUT_S)
    before = answer["before"]
    return None if before is None else str(before)


def _ask(host: RemoteHost, request: dict[str, Any], *, timeout_s: float) -> tuple[dict[str, Any], float]:
    """The answer of the work on the host, and how long it took (s)."""
    script = resources.files("drivers.bundle").joinpath("host_work.py").read_bytes()
    argument = shlex.quote(json.dumps({**request, "root": ROOT}))
    result = host.run(f"exec python3 -I - {argument}", timeout_s=timeout_s, check=False, stdin=script)
    if result.exit_status == _NO_SUCH_PROGRAM:
        raise Rejected("there is no python3 on the host", hint="install Debian's package python3 in the image")
    if result.exit_status:
        raise Rejected(
            f"the work on the host ended with status {result.exit_status}: {result.stderr.strip()[-600:]}",
            hint="look at the host's disk, memory and Python",
        )
    try:
        answer = json.loads(result.stdout)
    except ValueError as error:
        raise MalformedReply(f"the host's answer is no JSON: {result.stdout[:200]!r}") from error
    if "failed" in answer:
        raise _error(answer)
    return answer, result.duration_s


def _error(answer: dict[str, Any]) -> LevierError:
    kind, hint = _ERRORS.get(str(answer["failed"]), (Rejected, "look at the host"))
    return kind(str(answer.get("message", "")), hint=hint)
