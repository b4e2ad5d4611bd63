"""What armed faults do to the packets and sessions of one BMC."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from levier.lab.bmc.bootflags import BOOT_FLAGS
from levier.lab.faults import BmcCommand, FaultKind, NodeFaults

_ECHO_S = 0.05
"""A duplicated reply comes twice with this between: the second meets a client that has gone on."""
_COMMANDS = {
    (0x00, 0x01): BmcCommand.STATUS,
    (0x00, 0x02): BmcCommand.POWER,
    (0x00, 0x08): BmcCommand.BOOT_DEVICE,
    (0x00, 0x09): BmcCommand.BOOT_DEVICE,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A datagram to the client, and what it answers."""

    datagram: bytes
    command: BmcCommand


def command_of(netfn: int, command: int) -> BmcCommand:
    """Which of the commands that faults can be limited to this one is."""
    return _COMMANDS.get((netfn, command), BmcCommand.OTHER)


def ignores(faults: NodeFaults, command: BmcCommand, data: bytes) -> bool:
    """Whether this command is accepted and not carried out. Of the boot options, only the boot flags are ignored."""
    if command is BmcCommand.BOOT_DEVICE and data[0] & 0x7F != BOOT_FLAGS:
        return False
    return faults.due(FaultKind.BMC_IGNORES_COMMAND, command=command.value) is not None


def reported_power(faults: NodeFaults, truth: bool) -> bool:
    """The power state that the BMC reports."""
    fault = faults.due(FaultKind.POWER_STATE_LIES)
    if fault is None:
        return truth
    return not truth if fault.says is None else fault.says.value == "on"


class Misbehaviour:
    """The faults of one BMC's network side. Used from its event loop only."""

    def __init__(self, faults: NodeFaults, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._faults = faults
        self._clock = clock
        self._dead_until = 0.0

    def dead(self) -> bool:
        """Whether the BMC takes no packet: dead for the fault's `seconds`, or until it is healed."""
        if not self._faults.armed(FaultKind.BMC_DIES):
            self._dead_until = 0.0
            return False
        if self._clock() < self._dead_until:
            return True
        fault = self._faults.due(FaultKind.BMC_DIES)
        if fault is None:
            return False
        self._dead_until = self._clock() + fault.seconds if fault.seconds else float("inf")
        return True

    def exhausted(self) -> bool:
        """Whether this login finds every session slot taken."""
        return self._faults.due(FaultKind.BMC_SESSIONS_EXHAUSTED) is not None

    def deliver(self, answer: Answer, send: Callable[[bytes], None]) -> None:
        """The answer was sent, or will be, or never is."""
        about = answer.command.value
        if self._faults.due(FaultKind.BMC_REPLIES_LOST, command=about):
            return
        late = self._faults.due(FaultKind.BMC_REPLIES_LATE, command=about)
        if late is not None and late.seconds:
            asyncio.get_running_loop().call_later(late.seconds, send, answer.datagram)
            return
        send(answer.datagram)
        if self._faults.due(FaultKind.BMC_REPLIES_DUPLICATED, command=about):
            asyncio.get_running_loop().call_later(_ECHO_S, send, answer.datagram)
