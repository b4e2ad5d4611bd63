"""App commands: who the BMC is, and its sessions (IPMI 2.0 chapters 20 and 22)."""

from __future__ import annotations

import struct

from levier.lab.bmc.dispatch import Call, Code, Command, CompletionError, Privilege, Table
from levier.lab.bmc.suites import SUITE_RECORDS

_LAN_CHANNEL = 1
_EXAMPLE_ENTERPRISE = 32473
"""IANA's enterprise number for examples (RFC 5612): no vendor quirks may be derived from it."""
_SUITE_PAGE = 16


def _device_id(call: Call, data: bytes) -> bytes:
    # Device 0x20 with SDRs, firmware 1.00, IPMI 2.0, chassis + FRU + SEL + SDR repository + sensors (20.1).
    return bytes([0x20, 0x81, 0x01, 0x00, 0x02, 0x8F]) + struct.pack("<I", _EXAMPLE_ENTERPRISE)[:3] + b"\x01\x00"


def _cold_reset(call: Call, data: bytes) -> bytes:
    call.end_all_sessions()
    return b""


def _self_test(call: Call, data: bytes) -> bytes:
    return b"\x55\x00"


def _guid(call: Call, data: bytes) -> bytes:
    return call.device.guid


def _auth_capabilities(call: Call, data: bytes) -> bytes:
    # RMCP+ only, non-null user names, no Kg (22.13).
    call.notes["requested_privilege"] = data[1] & 0x0F
    return bytes([_LAN_CHANNEL, 0x80, 0x04, 0x02, 0, 0, 0, 0])


def _cipher_suites(call: Call, data: bytes) -> bytes:
    start = (data[2] & 0x3F) * _SUITE_PAGE
    return bytes([_LAN_CHANNEL]) + SUITE_RECORDS[start : start + _SUITE_PAGE]


def _set_privilege(call: Call, data: bytes) -> bytes:
    session = call.within_session()
    wanted = data[0] & 0x0F
    if wanted > session.limit:
        raise CompletionError(Code.PARAMETER_NOT_SUPPORTED)  # 0x80 means here: not available for this user (22.18)
    if wanted == Privilege.CALLBACK:
        raise CompletionError(Code.INVALID_FIELD)
    if wanted:
        session.privilege = Privilege(wanted)
    call.notes["privilege"] = session.privilege.name.lower()
    return bytes([session.privilege])


def _close_session(call: Call, data: bytes) -> bytes:
    session = call.within_session()
    if struct.unpack_from("<I", data)[0] != session.session_id:
        raise CompletionError(Code.INVALID_SESSION)
    session.closing = True
    return b""


def _session_info(call: Call, data: bytes) -> bytes:
    session = call.within_session()
    return bytes([1, 64, call.active_sessions, 1, session.privilege, 0x10 | _LAN_CHANNEL])


APP_COMMANDS: Table = {
    (0x06, 0x01): Command("Get Device ID", _device_id),
    (0x06, 0x02): Command("Cold Reset", _cold_reset, Privilege.ADMINISTRATOR),
    (0x06, 0x04): Command("Get Self Test Results", _self_test),
    (0x06, 0x08): Command("Get Device GUID", _guid),
    (0x06, 0x37): Command("Get System GUID", _guid, Privilege.NONE),
    (0x06, 0x38): Command("Get Channel Authentication Capabilities", _auth_capabilities, Privilege.NONE, 2),
    (0x06, 0x3B): Command("Set Session Privilege Level", _set_privilege, Privilege.CALLBACK, 1),
    (0x06, 0x3C): Command("Close Session", _close_session, Privilege.CALLBACK, 4),
    (0x06, 0x3D): Command("Get Session Info", _session_info, Privilege.USER, 1),
    (0x06, 0x54): Command("Get Channel Cipher Suites", _cipher_suites, Privilege.NONE, 3),
}
