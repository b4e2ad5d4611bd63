"""Waiting for a netbooting machine: until a condition holds, its agent fails, or it is not heard of for too long."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from levier.domain.bootentry import BootEntryView
from levier.domain.errors import Conflict, OutcomeUnknown, Rejected, Unreachable
from levier.domain.netboot import AgentStage

BLIND_S = 5.0
"""A look that took this long waited for the database."""


@dataclass(frozen=True, slots=True)
class BootPatience:
    """How long a machine may be silent. Large servers need minutes for their self test before they try the network."""

    first_sign_s: float = 900.0
    """Until the machine fetches its boot script."""
    silence_s: float = 180.0
    """Between two signs of life after that: a waiting agent asks every 30 s, a writing one reports every 2 s."""
    poll_s: float = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class BootWait:
    """One wait for one node; see BootEntries.wait_for."""

    node: str
    read: Callable[[], BootEntryView | None]
    until: Callable[[BootEntryView], bool]
    check: Callable[[], None]
    lease_given: Callable[[str], bool | None]
    clock: Callable[[], datetime]

    def run(self, *, timeout_s: float, patience: BootPatience) -> BootEntryView:
        """The entry as it was when `until` first held."""
        began = self.clock()
        while True:
            looked = time.monotonic()
            self.check()
            view = self.read()
            if time.monotonic() - looked > BLIND_S:
                began = self.clock()  # the database was away, and no machine could be heard: all time counts anew
            if view is None:
                raise Conflict(
                    f"the boot entry of node {self.node} was withdrawn while its machine was waited for",
                    hint="see which operation did it: levier operation list",
                )
            if self.until(view):
                return view
            _raise_failure(view)
            self._raise_silence(view, began=began, patience=patience)
            self._raise_late(view, began=began, timeout_s=timeout_s)
            time.sleep(patience.poll_s)

    def _raise_silence(self, view: BootEntryView, *, began: datetime, patience: BootPatience) -> None:
        now = self.clock()
        signs = [t for t in (view.script_fetched_at, view.last_seen) if t is not None]
        limit_s = patience.silence_s if signs else patience.first_sign_s
        silent_s = (now - max([began, *signs])).total_seconds()
        if silent_s >= limit_s:
            stage, hint = self._where_it_stopped(view)
            raise Unreachable(f"nothing heard of node {view.node} for {silent_s:.0f} s: {stage}", hint=hint)

    def _raise_late(self, view: BootEntryView, *, began: datetime, timeout_s: float) -> None:
        if (self.clock() - began).total_seconds() < timeout_s:
            return
        stage, hint = self._where_it_stopped(view)
        message = f"node {view.node} is not done after {timeout_s:.0f} s: {stage}"
        raise OutcomeUnknown(message, hint=hint) if view.is_claimed else Unreachable(message, hint=hint)

    def _where_it_stopped(self, view: BootEntryView) -> tuple[str, str]:
        """The last stage seen, and what usually is the matter behind it."""
        now = self.clock()
        if view.script_fetched_at is not None and (view.last_seen is None or view.script_fetched_at > view.last_seen):
            ago_s = (now - view.script_fetched_at).total_seconds()
            return (
                f"boot script fetched {ago_s:.0f} s ago, no claim since",
                "the kernel or the ramdisk did not come up, often for lack of a driver: look at the machine's console",
            )
        if view.is_claimed:
            return _last_stage(view, now), "if the agent died or lost its network, the machine's console shows it"
        lease = self.lease_given(view.mac)
        if lease is None:
            return (
                "boot script not fetched",
                "DHCP of this network is external: its answer, or the firmware, must name the boot script of "
                "docs/netboot.md, and the boot service's TCP port must be let through firewalls",
            )
        if lease:
            return (
                "DHCP lease given, boot script not fetched",
                "let TFTP (UDP 69, 45000-45999) and the boot service's TCP port through firewalls",
            )
        return (
            f"{view.mac} asked for no DHCP lease",
            "check that this MAC is the network-boot NIC's, that it is cabled to the provisioning network, and that "
            "network boot is enabled in the firmware",
        )


_CONSOLE = "the machine's console shows the agent's log"
_DISK = f"start the operation again; if it fails again, look at the disk and the network path to it: {_CONSOLE}"
_FAILURE_HINTS = {
    AgentStage.WRITE: _DISK,
    AgentStage.VERIFY: _DISK,
    AgentStage.SEED: f"the image must have an ext4 partition named `root` with room for the seed: {_CONSOLE}",
}


def _raise_failure(view: BootEntryView) -> None:
    failure = view.failure
    if failure is not None:
        raise Rejected(
            f"the agent on node {view.node} failed at {failure.stage}: {failure.detail or 'it named no cause'}",
            hint=_FAILURE_HINTS.get(failure.stage, _CONSOLE),
        )
    if view.is_interrupted:
        raise OutcomeUnknown(
            f"the machine of node {view.node} started anew while disk {view.instruction.disk} was being written",
            hint="the disk holds half an image: instruct the write again",
        )


def _last_stage(view: BootEntryView, now: datetime) -> str:
    seen_s = 0.0 if view.last_seen is None else (now - view.last_seen).total_seconds()
    if not view.answers:
        return f"agent claimed the entry, told {view.instruction.action}, last seen {seen_s:.0f} s ago"
    report = view.answers[-1].report
    done = f" ({report.bytes_done} bytes)" if report.bytes_done else ""
    return f"last report {report.stage}/{report.state}{done}, agent last seen {seen_s:.0f} s ago"
