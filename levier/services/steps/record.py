"""Steps that write down what a node is now."""

from __future__ import annotations

from typing import Any

from levier.domain.node import NodeState
from levier.domain.operation import JsonMap
from levier.saga.step import Checkpoint, step
from levier.services.context import NodeContext

DEPLOYABLE = (NodeState.ENROLLED, NodeState.AVAILABLE)


def state_before(ctx: NodeContext) -> JsonMap:
    """The node's state."""
    return {"state": ctx.services.nodes.get(ctx.name).state.value}


def back_to(ctx: NodeContext, checkpoint: Checkpoint) -> JsonMap:
    """The node has the state from before the step; an enrolled node comes back by way of `available`."""
    state = NodeState(str(checkpoint.before["state"]))
    if state is NodeState.ENROLLED and ctx.services.nodes.get(ctx.name).state is NodeState.DEPLOYING:
        ctx.services.nodes.set_state(ctx.name, NodeState.AVAILABLE, expected=[NodeState.DEPLOYING], fence=ctx.fence)
    ctx.services.nodes.set_state(ctx.name, state, expected=list(NodeState), fence=ctx.fence)
    return {"state": state.value}


@step(name="mark-deploying", title="Record that the node is being deployed", undo=back_to, before=state_before)
def mark_deploying(ctx: NodeContext) -> JsonMap:
    """The node is `deploying`; one that was enrolled has just been matched, and is `available` in between.

    Safe to repeat. Raises Conflict when its state does not allow that.
    """
    if ctx.services.nodes.get(ctx.name).state is NodeState.ENROLLED:
        ctx.services.nodes.set_state(ctx.name, NodeState.AVAILABLE, expected=[NodeState.ENROLLED], fence=ctx.fence)
    ctx.services.nodes.set_state(ctx.name, NodeState.DEPLOYING, expected=DEPLOYABLE, fence=ctx.fence)
    return {"state": NodeState.DEPLOYING.value}


def _facts_before(ctx: NodeContext) -> JsonMap:
    record = ctx.services.nodes.get(ctx.name)
    return {
        "state": record.state.value,
        "address": record.address,
        "os": record.os,
        "kernel": record.kernel,
        "serial": record.serial,
        "revision": record.revision or 0,
        "inventory": dict(record.inventory),
        "facts": dict(record.facts),
    }


def _forget_ready(ctx: NodeContext, checkpoint: Checkpoint) -> JsonMap:
    """The node's record says what it said before."""
    before = {k: v for k, v in checkpoint.before.items() if k != "state"}
    ctx.services.nodes.update_facts(ctx.name, fence=ctx.fence, **before)
    return back_to(ctx, checkpoint)


@step(
    name="mark-ready",
    title="Record that the host is ready",
    undo=_forget_ready,
    before=_facts_before,
    needs=("allocate-address", "await-agent", "boot-host"),
)
def mark_ready(ctx: NodeContext) -> JsonMap:
    """The node is `ready` and its record says what runs on it. Safe to repeat."""
    seen = ctx.outputs("boot-host")
    record: dict[str, Any] = {
        "address": ctx.outputs("allocate-address")["address"],
        "os": seen["os"],
        "kernel": seen["kernel"],
        "serial": _serial(ctx),
        "revision": ctx.terms.revision,
        "inventory": ctx.outputs("await-agent")["inventory"],
        "facts": seen["facts"],
    }
    ctx.services.nodes.update_facts(ctx.name, fence=ctx.fence, **record)
    ctx.services.nodes.set_state(ctx.name, NodeState.READY, expected=[NodeState.DEPLOYING], fence=ctx.fence)
    return {"state": NodeState.READY.value}


def _serial(ctx: NodeContext) -> str:
    inventory = ctx.outputs_if_any("await-agent").get("inventory")
    in_band = str(inventory.get("serial", "")) if isinstance(inventory, dict) else ""
    return in_band or str(ctx.outputs_if_any("inspect-bmc").get("serial", ""))


@step(
    name="record-inventory",
    title="Record the inventory",
    undo=_forget_ready,
    before=_facts_before,
    needs=("await-agent",),
)
def record_inventory(ctx: NodeContext) -> JsonMap:
    """The node's record holds the inventory and serial number just seen. Safe to repeat."""
    inventory = ctx.outputs("await-agent").get("inventory")
    ctx.services.nodes.update_facts(ctx.name, fence=ctx.fence, serial=_serial(ctx), inventory=inventory)
    return {"serial": _serial(ctx)}


@step(name="mark-available", title="Record that the node can be used", undo=back_to, before=state_before)
def mark_available(ctx: NodeContext) -> JsonMap:
    """An enrolled node that passed inspection is `available`; any other state stays. Safe to repeat."""
    if ctx.services.nodes.get(ctx.name).state is NodeState.ENROLLED:
        ctx.services.nodes.set_state(ctx.name, NodeState.AVAILABLE, expected=[NodeState.ENROLLED], fence=ctx.fence)
    return state_before(ctx)
