"""Steps that talk to a node's BMC."""

from __future__ import annotations

from levier.domain.bmc import BootDevice, BootOverride, Firmware, FruInventory, PowerState
from levier.domain.errors import AuthFailed, Conflict, OutcomeUnknown, Rejected
from levier.domain.matching import describe_mismatches, match_node
from levier.domain.operation import JsonMap
from levier.saga.step import Checkpoint, Undo, step
from levier.services.context import NodeContext


def _power_now(ctx: NodeContext) -> JsonMap:
    return {"power": ctx.bmc().power_state().value}


@step(name="verify-bmc", title="Log in to the BMC and read the power state", undo=Undo.NO_EFFECT)
def verify_bmc(ctx: NodeContext) -> JsonMap:
    """The BMC accepts the credentials and answers. Safe to repeat. Raises Unreachable, AuthFailed."""
    try:
        return {"power": ctx.bmc().power_state().value, "bmc": str(ctx.bmc().address)}
    except AuthFailed as error:
        secret = ctx.node.bmc.credential
        raise AuthFailed(
            error.message,
            hint=f"correct the password: levier secret set {secret} --username NAME; "
            f"or name another credential in nodes[{ctx.name}].bmc. It was tried once only: BMCs lock accounts",
        ) from error


@step(name="inspect-bmc", title="Read the machine's identity and sensors from the BMC", undo=Undo.NO_EFFECT)
def inspect_bmc(ctx: NodeContext) -> JsonMap:
    """The machine's FRU identity and sensor health are known. Safe to repeat."""
    fru = ctx.bmc().fru()
    sensors = ctx.bmc().sensors()
    return {
        "manufacturer": fru.manufacturer,
        "product": fru.product,
        "serial": fru.serial,
        "sensors": len(sensors),
        "critical": [s.name for s in sensors if s.health in {"critical", "failed"}],
    }


@step(name="match-site", title="Compare the machine with the site file", undo=Undo.NO_EFFECT)
def match_site(ctx: NodeContext) -> JsonMap:
    """The machine behind the BMC is the one the site file means. Safe to repeat. Raises Rejected."""
    seen = ctx.outputs_if_any("inspect-bmc")
    mismatches = match_node(ctx.node, FruInventory(serial=str(seen.get("serial", ""))))
    if mismatches:
        raise Rejected(
            describe_mismatches(ctx.name, mismatches),
            hint=f"correct nodes[{ctx.name}].serial or nodes[{ctx.name}].bmc in the site file and apply it again",
        )
    return {"serial": seen.get("serial", "")}


def _bring_to(ctx: NodeContext, state: PowerState) -> JsonMap:
    """The chassis is on or off, as `state` says."""
    timeout_s = ctx.services.patience.power_timeout_s
    if state is PowerState.ON:
        ctx.bmc().power_on(timeout_s=timeout_s)
    else:
        ctx.bmc().power_off(timeout_s=timeout_s)
    return {"power": ctx.bmc().power_state().value}


def _restore_power(ctx: NodeContext, checkpoint: Checkpoint) -> JsonMap:
    """The chassis has the power state it had before the step."""
    return _bring_to(ctx, PowerState(str(checkpoint.before.get("power", PowerState.OFF.value))))


@step(
    name="power-off",
    title="Have the machine off before it is booted",
    undo=_restore_power,
    before=_power_now,
    proof=_power_now,
)
def power_off(ctx: NodeContext) -> JsonMap:
    """The chassis is off. Safe to repeat: an off chassis is left alone."""
    ctx.bmc().power_off(timeout_s=ctx.services.patience.power_timeout_s)
    return {"power": PowerState.OFF.value}


def _boot_before(ctx: NodeContext) -> JsonMap:
    override = ctx.bmc().boot_override()
    return {"device": override.device.value, "persistent": override.persistent, "firmware": override.firmware.value}


def _restore_boot_device(ctx: NodeContext, checkpoint: Checkpoint) -> JsonMap:
    """The boot override is the one from before; a consumed one-shot override needs nothing."""
    before = checkpoint.before
    earlier = BootOverride(
        device=BootDevice(str(before.get("device", BootDevice.NONE.value))),
        persistent=bool(before.get("persistent", False)),
        firmware=Firmware(str(before.get("firmware", ctx.node.firmware))),
    )
    if ctx.bmc().boot_override() != earlier:
        ctx.bmc().set_boot_override(earlier)
    return {"device": earlier.device.value}


@step(name="set-boot-device", title="Boot once from the network", undo=_restore_boot_device, before=_boot_before)
def set_boot_device(ctx: NodeContext) -> JsonMap:
    """The next boot, and only that one, is from the network, with the node's firmware. Safe to repeat."""
    wanted = BootOverride(device=BootDevice.PXE, persistent=False, firmware=Firmware(ctx.node.firmware))
    ctx.bmc().set_boot_override(wanted)
    return {"device": wanted.device.value, "firmware": wanted.firmware.value}


def _power_off_again(ctx: NodeContext, checkpoint: Checkpoint) -> JsonMap:
    """The chassis was told to be off, whatever its BMC said before, and is seen to be off."""
    ctx.bmc().power_off(timeout_s=ctx.services.patience.power_timeout_s, believe_off=False)
    state = ctx.bmc().power_state()
    if state is not PowerState.OFF:
        raise OutcomeUnknown(
            f"{ctx.name} was told to power off and still reports {state.value}",
            hint="look at the machine: if it is off, its BMC's reading is wrong, restart the BMC",
        )
    return {"power": state.value}


@step(name="power-on", title="Power on", undo=_power_off_again, proof=_power_now)
def power_on(ctx: NodeContext) -> JsonMap:
    """The chassis is on. Safe to repeat: a chassis that is on is left alone.

    Raises Rejected when the machine boots although its BMC says that it is off.
    """
    before = ctx.services.boot_entries.get(ctx.name)
    if before is None:
        raise Conflict(f"{ctx.name} has no boot entry any more", hint="roll the operation back and start it again")
    try:
        ctx.bmc().power_on(timeout_s=ctx.services.patience.power_timeout_s)
    except OutcomeUnknown as error:
        after = ctx.services.boot_entries.get(ctx.name)
        if after is not None and after.script_fetches > before.script_fetches:
            raise Rejected(
                f"{error.message}; yet the machine fetched its boot script meanwhile: the BMC's power reading is wrong",
                hint="restart the BMC (ipmitool mc reset cold); Levier acts on no machine whose power it cannot read",
            ) from error
        raise
    return {"power": PowerState.ON.value}


@step(name="restore-power", title="Return to the power state from before", undo=Undo.NO_EFFECT)
def restore_power(ctx: NodeContext) -> JsonMap:
    """The chassis has the power state that `verify-bmc` found. Safe to repeat."""
    return _bring_to(ctx, PowerState(str(ctx.outputs_if_any("verify-bmc").get("power", PowerState.OFF.value))))
