"""Why a login failed: pyghmi says it in words only, the words of its own tables."""

from __future__ import annotations

from collections.abc import Mapping

from levier.domain import errors
from levier.domain.bmc import BmcAddress

from . import completion
from .messages import NETFN_APP, Message

# RMCP+ status codes, IPMI 2.0 table 13-15.
NO_RESOURCES = frozenset({0x01, 0x0B})
_STALE = frozenset({0x02, 0x08})
_CREDENTIALS = frozenset({0x09, 0x0A, 0x0C, 0x0D, 0x0E, 0x0F})
_ALGORITHMS = frozenset({0x04, 0x05, 0x06, 0x07, 0x10, 0x11})

_LOGIN = Message(name="login", netfn=NETFN_APP, command=0x3B)
_CHECK_CREDENTIALS = (
    "Check the credential reference in the site file; it is not tried again, because BMCs lock accounts."
)


def _code_of(text: str, table: Mapping[int, str]) -> int | None:
    return next((code for code, words in table.items() if text.startswith(words)), None)


def login_error(
    address: BmcAddress, text: str, rmcp_codes: Mapping[int, str], completion_codes: Mapping[int, str]
) -> errors.DriverError:
    """The error that stands for pyghmi's `text`; returned, not raised."""
    code = _code_of(text, rmcp_codes)
    if text.startswith(("Incorrect password", "Invalid RAKP4 integrity")) or code in _CREDENTIALS:
        return errors.AuthFailed(f"BMC {address} refused the credentials: {text}", hint=_CHECK_CREDENTIALS)
    if code in NO_RESOURCES:
        hint = "Repeat later; close other IPMI sessions (ipmitool, consoles), or restart the BMC if slots leaked."
        return errors.Busy(f"BMC {address} has no free session slot: {text}", hint=hint)
    if code in _STALE:
        hint = "Repeat; packets of an earlier attempt got in between."
        return errors.Busy(f"BMC {address} dropped the login: {text}", hint=hint)
    if code in _ALGORITHMS or text.startswith("MD5 required"):
        hint = "Enable cipher suite 3 or 17 in the BMC's settings, or set the option cipher_suite."
        return errors.Unsupported(f"BMC {address} offers no cipher suite that Levier uses: {text}", hint=hint)
    return _from_completion(address, text, completion_codes)


def _from_completion(address: BmcAddress, text: str, completion_codes: Mapping[int, str]) -> errors.DriverError:
    """The error for a refusal in words of the completion code table, e.g. while asking for privileges."""
    code = _code_of(text, completion_codes)
    if code:
        refused = completion.refusal(address, _LOGIN, code)
        if isinstance(refused, errors.Busy):
            return refused
    if "while requesting privelege level" in text:  # pyghmi's spelling
        hint = "Give the account that privilege on the LAN channel, or set the option privilege: operator."
        return errors.AuthFailed(f"BMC {address} refused the privilege level: {text}", hint=hint)
    return errors.Rejected(f"BMC {address} refused the login: {text}", hint="The BMC's own event log may say why.")
