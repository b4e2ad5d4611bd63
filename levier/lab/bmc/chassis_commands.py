"""Chassis commands: power, identify light and boot options (IPMI 2.0 chapter 28)."""

from __future__ import annotations

from levier.lab.bmc.bootflags import BOOT_FLAGS, InvalidValue, UnsupportedParameter
from levier.lab.bmc.device import ChassisAction
from levier.lab.bmc.dispatch import Call, Code, Command, CompletionError, Privilege, Table
from levier.lab.bmc.misbehaviour import ignores, reported_power
from levier.lab.faults import BmcCommand

_DEFAULT_IDENTIFY_S = 15
_IDENTIFY_SUPPORTED = 0x40
_ON_BY_COMMAND = 0x10
_NEEDS_POWER = (ChassisAction.CYCLE, ChassisAction.RESET)


def _capabilities(call: Call, data: bytes) -> bytes:
    return bytes([0x00, 0x20, 0x20, 0x20, 0x20])


def _status(call: Call, data: bytes) -> bytes:
    device = call.device
    powered = reported_power(call.faults, device.hardware.powered)
    power = int(powered) | device.restore_policy << 5
    last_event = _ON_BY_COMMAND if powered else 0
    return bytes([power, last_event, _IDENTIFY_SUPPORTED | device.identify.chassis_bits])


def _control(call: Call, data: bytes) -> bytes:
    try:
        action = ChassisAction(data[0] & 0x0F)
    except ValueError:
        raise CompletionError(Code.INVALID_FIELD) from None
    call.notes["action"] = action.name.lower().replace("_", "-")
    if action in _NEEDS_POWER and not call.device.hardware.powered:
        raise CompletionError(Code.NOT_IN_THIS_STATE)
    if ignores(call.faults, BmcCommand.POWER, data):
        call.notes["ignored"] = True
        return b""
    call.device.boot_options.chassis_control_came()
    call.device.hardware.request(action)
    return b""


def _identify(call: Call, data: bytes) -> bytes:
    duration_s = data[0] if data else _DEFAULT_IDENTIFY_S
    forever = len(data) > 1 and bool(data[1] & 1)
    call.device.identify.light(duration_s=duration_s, forever=forever)
    call.notes.update(duration_s=duration_s, forever=forever)
    return b""


def _set_boot_options(call: Call, data: bytes) -> bytes:
    call.notes["parameter"] = data[0] & 0x7F
    if ignores(call.faults, BmcCommand.BOOT_DEVICE, data):
        call.notes["ignored"] = True
        return b""
    try:
        call.device.boot_options.write(data)
    except UnsupportedParameter:
        raise CompletionError(Code.PARAMETER_NOT_SUPPORTED) from None
    except InvalidValue:
        raise CompletionError(Code.INVALID_FIELD) from None
    if data[0] & 0x7F == BOOT_FLAGS:
        override = call.device.boot_options.override()
        call.notes.update(
            boot_device=override.device.value, persistent=override.persistent, firmware=override.firmware.value
        )
    return b""


def _get_boot_options(call: Call, data: bytes) -> bytes:
    call.notes["parameter"] = data[0] & 0x7F
    try:
        return call.device.boot_options.read(data[0] & 0x7F)
    except UnsupportedParameter:
        raise CompletionError(Code.PARAMETER_NOT_SUPPORTED) from None


CHASSIS_COMMANDS: Table = {
    (0x00, 0x00): Command("Get Chassis Capabilities", _capabilities),
    (0x00, 0x01): Command("Get Chassis Status", _status),
    (0x00, 0x02): Command("Chassis Control", _control, Privilege.OPERATOR, 1),
    (0x00, 0x04): Command("Chassis Identify", _identify, Privilege.OPERATOR),
    (0x00, 0x08): Command("Set System Boot Options", _set_boot_options, Privilege.OPERATOR, 1),
    (0x00, 0x09): Command("Get System Boot Options", _get_boot_options, Privilege.OPERATOR, 1),
}
