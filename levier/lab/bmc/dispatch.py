"""How an IPMI command finds its handler and what a handler may use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from levier.lab.bmc.device import BmcDevice
from levier.lab.faults import NodeFaults


class Code(IntEnum):
    """Completion codes in use (table 5-2)."""

    OK = 0x00
    PARAMETER_NOT_SUPPORTED = 0x80
    INVALID_SESSION = 0x87
    INVALID_COMMAND = 0xC1
    RESERVATION_CANCELLED = 0xC5
    WRONG_LENGTH = 0xC7
    OUT_OF_RANGE = 0xC9
    TOO_MANY_BYTES = 0xCA
    NOT_PRESENT = 0xCB
    INVALID_FIELD = 0xCC
    OUT_OF_SPACE = 0xC4
    INSUFFICIENT_PRIVILEGE = 0xD4
    NOT_IN_THIS_STATE = 0xD5
    UNSPECIFIED = 0xFF


class Privilege(IntEnum):
    """Session privilege levels (section 6.8). NONE: allowed outside a session."""

    NONE = 0
    CALLBACK = 1
    USER = 2
    OPERATOR = 3
    ADMINISTRATOR = 4


class CompletionError(Exception):
    """The command failed with a completion code."""

    def __init__(self, code: Code) -> None:
        super().__init__(code.name)
        self.code = code


class SessionView:
    """What a handler may know and change of the session it runs in."""

    def __init__(self, *, session_id: int, username: str, limit: Privilege) -> None:
        self.session_id = session_id
        self.username = username
        self.limit = limit
        self.privilege = Privilege.USER
        self.closing = False


@dataclass(slots=True)
class Call:
    """One command as its handler sees it. `notes` go into the ledger beside the command."""

    device: BmcDevice
    session: SessionView | None
    active_sessions: int
    end_all_sessions: Callable[[], None]
    faults: NodeFaults
    notes: dict[str, Any] = field(default_factory=dict)

    def within_session(self) -> SessionView:
        """The session; CompletionError when the command came outside one."""
        if self.session is None:
            raise CompletionError(Code.INVALID_COMMAND)
        return self.session


Handler = Callable[[Call, bytes], bytes]


@dataclass(frozen=True, slots=True)
class Command:
    """A command of the BMC: its name in the specification, the least data it needs, who may give it."""

    name: str
    handler: Handler
    privilege: Privilege = Privilege.USER
    least_size: int = 0


Table = dict[tuple[int, int], Command]

# What clients probe for and this BMC does not have: named, so that the ledger can be read.
ABSENT: dict[tuple[int, int], str] = {
    (0x2C, 0x00): "Get PICMG Properties",
    (0x2C, 0x01): "Get DCMI Capabilities",
    (0x2C, 0x02): "Get DCMI Power Reading",
    (0x2C, 0x3E): "HPM.1 Capabilities",
    (0x2C, 0x3B): "Get VSO Capabilities",
    (0x06, 0x48): "Activate Payload",
    (0x0C, 0x02): "Get LAN Configuration Parameters",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer to a command, and its name for the ledger."""

    name: str
    code: int
    data: bytes = b""


def run_command(table: Table, *, netfn: int, command: int, data: bytes, call: Call) -> Outcome:
    """The command was carried out, or refused with its completion code; never raises for what a client sent."""
    entry = table.get((netfn, command))
    if entry is None:
        return Outcome(ABSENT.get((netfn, command), "unknown"), Code.INVALID_COMMAND)
    granted = call.session.privilege if call.session else Privilege.NONE
    if granted < entry.privilege:
        return Outcome(entry.name, Code.INSUFFICIENT_PRIVILEGE)
    if len(data) < entry.least_size:
        return Outcome(entry.name, Code.WRONG_LENGTH)
    try:
        return Outcome(entry.name, Code.OK, entry.handler(call, data))
    except CompletionError as error:
        return Outcome(entry.name, error.code)
