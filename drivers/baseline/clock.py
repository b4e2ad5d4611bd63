"""Whether a host's clock is right, compared with the clock of the machine that Levier runs on."""

from __future__ import annotations

import time
from collections.abc import Callable

from levier.domain.errors import MalformedReply, Rejected
from levier.domain.ssh import RemoteHost

TOLERANCE_S = 300.0
"""Kerberos' limit (RFC 4120, section 8.2), and what certificates and tokens of a cloud are made to bear."""
_POLL_S = 2.0


def clock_offset_s(host: RemoteHost) -> float:
    """How far the host's clock is ahead of this machine's, in seconds, to about a second. Safe to repeat."""
    before = time.time()
    said = host.run("date -u +%s").stdout.strip()
    now = (before + time.time()) / 2
    if not said.isdigit():
        raise MalformedReply(f"the host tells the time as {said!r}", hint="Run `date -u +%s` on it by hand.")
    return int(said) + 0.5 - now


def verify_clock(
    host: RemoteHost,
    *,
    timeout_s: float,
    tolerance_s: float = TOLERANCE_S,
    check: Callable[[], None] | None = None,
) -> float:
    """The host's clock is right to `tolerance_s`; its offset in seconds. Waits `timeout_s` for it to be set right.

    `check` is called at every look, and ends the waiting by raising. Changes nothing, safe to repeat. Raises Rejected
    with the offset.
    """
    deadline = time.monotonic() + timeout_s
    while abs(offset_s := clock_offset_s(host)) > tolerance_s:
        if check is not None:
            check()
        if time.monotonic() + _POLL_S > deadline:
            raise Rejected(
                f"the host's clock is {abs(offset_s):.0f} s {'ahead' if offset_s > 0 else 'behind'}, and was not set "
                f"right within {timeout_s:g} s",
                hint="Set the machine's clock (firmware setup, hwclock) or give it time servers that it can reach "
                "(site.ntp_servers); if every host is off by as much, it is the clock of Levier's own machine.",
            )
        time.sleep(_POLL_S)
    return offset_s
