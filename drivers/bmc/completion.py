"""What a completion code means for the caller (IPMI 2.0 table 5-2): one table, one error for each refusal."""

from __future__ import annotations

from levier.domain import errors
from levier.domain.bmc import BmcAddress

from .messages import NETFN_CHASSIS, Message, Reply

SUCCESS = 0x00
RESERVATION_LOST = 0xC5
NOT_PRESENT = 0xCB
NO_SUCH_DEVICE = frozenset({0xC9, NOT_PRESENT, 0xCC})
"""Codes with which BMCs refuse a FRU device they do not have; the spec wants 0xCB, OpenIPMI sends 0xCC."""
PARAMETER_UNSUPPORTED = 0x80
"""Command-specific code of Get/Set System Boot Options, IPMI 2.0 sections 28.12 and 28.13."""
TOO_MUCH_AT_ONCE = frozenset({0xC4, 0xC7, 0xC8, 0xC9, 0xCA, 0xFF})
"""Codes with which BMCs in the field refuse a read that is too long; the spec wants 0xCA only."""
WRONG_LENGTH = frozenset({0xC7, 0xC8, 0xCC})
"""Codes with which a BMC refuses an optional trailing byte it does not know."""

_BUSY = {
    0xC0: "node busy",
    0xC4: "out of space",
    0xC5: "reservation cancelled",
    0xD0: "SDR repository in update mode",
    0xD1: "device in firmware update mode",
    0xD2: "BMC initialisation in progress",
}
_UNKNOWN = {
    0xC3: "time-out while processing the command",
    0xCE: "response could not be provided",
}
_UNSUPPORTED = {
    0xC1: "invalid command",
    0xC2: "command invalid for this LUN",
    0xD6: "sub-function disabled or unavailable",
}
_REJECTED = {
    0xC6: "request truncated",
    0xC7: "request length invalid",
    0xC8: "request field length limit exceeded",
    0xC9: "parameter out of range",
    0xCA: "cannot return that many bytes",
    0xCB: "sensor, data or record not present",
    0xCC: "invalid data field",
    0xCD: "command illegal for this sensor or record",
    0xCF: "cannot execute a duplicated request",
    0xD3: "destination unavailable",
    0xD5: "not supported in the present state",
    0xFF: "unspecified error",
}
_INSUFFICIENT_PRIVILEGE = 0xD4
_BOOT_OPTION_COMMANDS = (0x08, 0x09)


def _wording(message: Message, code: int) -> tuple[type[errors.DriverError], str, str]:
    """Error class, meaning and hint of one non-zero completion code."""
    if code == PARAMETER_UNSUPPORTED and message.netfn == NETFN_CHASSIS and message.command in _BOOT_OPTION_COMMANDS:
        return errors.Unsupported, "boot parameter not supported", "Set the boot order in the firmware of this machine."
    if code == _INSUFFICIENT_PRIVILEGE:
        hint = "Give the BMC account operator or administrator privilege on its LAN channel."
        return errors.AuthFailed, "insufficient privilege level", hint
    tables: tuple[tuple[dict[int, str], type[errors.DriverError], str], ...] = (
        (_BUSY, errors.Busy, "Repeat later; if it stays so, restart the BMC."),
        (_UNKNOWN, errors.OutcomeUnknown, "Read the state before repeating anything."),
        (_UNSUPPORTED, errors.Unsupported, "Update the BMC's firmware, or do without this capability."),
        (_REJECTED, errors.Rejected, "Read the state; the BMC's own event log may say why."),
    )
    for table, kind, hint in tables:
        if code in table:
            return kind, table[code], hint
    return errors.Rejected, "device-specific refusal", "Look the code up in the vendor's documentation."


def refusal(address: BmcAddress, message: Message, code: int) -> errors.DriverError:
    """The error that stands for completion code `code` of `message`; returned, not raised."""
    kind, meaning, hint = _wording(message, code)
    return kind(f"BMC {address} answered '{message.name}' with 0x{code:02x} ({meaning})", hint=hint)


def checked(address: BmcAddress, message: Message, reply: Reply) -> bytes:
    """The data of a successful reply of at least `message.reply_size` bytes.

    Raises the error of the completion code, or MalformedReply when the answer is too short.
    """
    if reply.code != SUCCESS:
        raise refusal(address, message, reply.code)
    if len(reply.data) < message.reply_size:
        raise errors.MalformedReply(
            f"BMC {address} answered '{message.name}' with {len(reply.data)} bytes instead of {message.reply_size}",
            hint="Read the state again; if it repeats, update or restart the BMC.",
        )
    return reply.data
