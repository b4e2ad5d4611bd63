"""Waiting for a netbooting machine: until a condition holds, its agent fails, or it is not heard of for too long."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from levier.domain.bootentry import BootEntryView
from levier.domain.errors import Conflict, OutcomeUnknown, Rejected, Unreachable


@dataclass(frozen=True, slots=True)
class BootWait:
    """How patiently to wait. Large servers need minutes for their self test before the network is tried."""

    timeout_s: float = 3600.0
    first_sign_s: float = 900.0
    """Until the machine fetches its boot script."""
    silence_s: float = 180.0
    """Between two signs of life after that: a waiting agent asks every 30 s, a writing one reports every 2 s."""
    poll_s: float = 0.3

    def run(
        self,
        *,
        node: str,
        read: Callable[[], BootEntryView | None],
        until: Callable[[BootEntryView], bool],
        lease_given: Callable[[str], bool],
        clock: Callable[[], datetime],
    ) -> BootEntryView:
        """See BootEntries.wait_for."""
        began = clock()
        while True:
            view = read()
            if view is None:
                raise Conflict(
                    f"the boot entry of node {node} was withdrawn while its machine was waited for",
                    hint="see which operation did it: levier operation list",
                )
            if until(view):
                return view
            _raise_failure(view)
            self._raise_silence(view, began=began, now=clock(), lease_given=lease_given)
            time.sleep(self.poll_s)

    def _raise_silence(
        self, view: BootEntryView, *, began: datetime, now: datetime, lease_given: Callable[[str], bool]
    ) -> None:
        signs = [t for t in (view.script_fetched_at, view.last_seen) if t is not None]
        patience_s = self.silence_s if signs else self.first_sign_s
        silent_s = (now - max([began, *signs])).total_seconds()
        expired = (now - began).total_seconds() >= self.timeout_s
        if silent_s < patience_s and not expired:
            return
        if expired and view.is_claimed and silent_s < patience_s:
            raise OutcomeUnknown(
                f"node {view.node} is not done after {self.timeout_s:.0f} s: {_last_stage(view, now)}",
                hint="the agent is alive: wait longer, or look at the machine's console",
            )
        stage, hint = _where_it_stopped(view, now=now, lease_given=lease_given)
        raise Unreachable(f"nothing heard of node {view.node} for {silent_s:.0f} s: {stage}", hint=hint)


def _raise_failure(view: BootEntryView) -> None:
    failure = view.failure
    if failure is not None:
        raise Rejected(
            f"the agent on node {view.node} failed at {failure.stage}: {failure.detail or 'it named no cause'}",
            hint="the machine's console shows the agent's log",
        )
    if view.is_interrupted:
        raise OutcomeUnknown(
            f"the machine of node {view.node} started anew while disk {view.instruction.disk} was being written",
            hint="the disk holds half an image: instruct the write again",
        )


def _where_it_stopped(view: BootEntryView, *, now: datetime, lease_given: Callable[[str], bool]) -> tuple[str, str]:
    """The last stage seen, and what usually is the matter behind it."""
    if view.is_claimed:
        return _last_stage(view, now), "the agent died or lost its network: look at the machine's console"
    if view.script_fetched_at is not None:
        ago_s = (now - view.script_fetched_at).total_seconds()
        return (
            f"boot script fetched {ago_s:.0f} s ago, no claim",
            "the kernel or the ramdisk did not come up, often for lack of a driver: look at the machine's console",
        )
    if lease_given(view.mac):
        return (
            "DHCP lease given, boot script not fetched",
            "let TFTP (UDP 69 and the server's transfer ports) and the boot service's TCP port through firewalls",
        )
    return (
        f"no DHCP lease asked for by {view.mac}",
        "check that this MAC is the network-boot NIC's, that it is cabled to the provisioning network, and that "
        "network boot is enabled in the firmware",
    )


def _last_stage(view: BootEntryView, now: datetime) -> str:
    seen_s = 0.0 if view.last_seen is None else (now - view.last_seen).total_seconds()
    if not view.answers:
        return f"agent claimed the entry, told {view.instruction.action}, last seen {seen_s:.0f} s ago"
    report = view.answers[-1].report
    done = f" ({report.bytes_done} bytes)" if report.bytes_done else ""
    return f"last report {report.stage}/{report.state}{done}, agent last seen {seen_s:.0f} s ago"
