"""Steps around booting from the network: address, boot entry, agent."""

from __future__ import annotations

from levier.domain.errors import Rejected, Unreachable
from levier.domain.hints import choose_root_disk
from levier.domain.inventory import Inventory
from levier.domain.matching import describe_mismatches, match_node
from levier.domain.netboot import AgentAction, BootPurpose
from levier.domain.operation import JsonMap
from levier.domain.retry import NEVER
from levier.saga.step import Checkpoint, Undo, step
from levier.services.context import NodeContext


def _release_address(ctx: NodeContext, checkpoint: Checkpoint) -> JsonMap:
    """The node holds no address that this operation allocated."""
    ctx.services.release_address(ctx.site, ctx.node, operation=ctx.operation, fence=ctx.fence)
    return {}


def _address_kept(ctx: NodeContext) -> JsonMap:
    """The address that the operation still holds for the node, or None."""
    held = [a.address for a in ctx.services.addresses.list() if (a.node, a.operation) == (ctx.name, ctx.operation)]
    return {"address": held[0] if held else None}


@step(name="allocate-address", title="Allocate the host's address", undo=_release_address, proof=_address_kept)
def allocate_address(ctx: NodeContext) -> JsonMap:
    """The node has an address in the provisioning network's host range. Safe to repeat: it keeps the one it has."""
    address = ctx.services.allocate_address(ctx.site, ctx.node, operation=ctx.operation, fence=ctx.fence)
    return {"address": address}


def _withdraw(ctx: NodeContext, checkpoint: Checkpoint) -> JsonMap:
    """There is no boot entry, token, session or DHCP answer for the node."""
    return {"withdrawn": ctx.services.boot_entries.withdraw(node=ctx.name, by=ctx.fence)}


def _boot_entry_stands(ctx: NodeContext) -> JsonMap:
    """Whether the node may boot from the network, for whichever operation."""
    return {"boot_entry": ctx.services.boot_entries.get(ctx.name) is not None}


def _publish(ctx: NodeContext, purpose: BootPurpose) -> JsonMap:
    address = str(ctx.outputs("allocate-address")["address"])
    ctx.services.publish_boot_entry(ctx.site, ctx.node, fence=ctx.fence, purpose=purpose, address=address)
    return {"mac": ctx.site.boot_nic(ctx.node).mac, "address": address}


@step(
    name="publish-boot-entry",
    title="Let the node boot from the network",
    undo=_withdraw,
    proof=_boot_entry_stands,
    needs=("allocate-address",),
)
def publish_boot_entry(ctx: NodeContext) -> JsonMap:
    """DHCP and the boot service answer this node, and only for this operation. Safe to repeat."""
    return _publish(ctx, BootPurpose.DEPLOY)


@step(
    name="publish-inspection-entry",
    title="Let the node boot from the network to be inspected",
    undo=_withdraw,
    proof=_boot_entry_stands,
    needs=("allocate-address",),
)
def publish_inspection_entry(ctx: NodeContext) -> JsonMap:
    """DHCP and the boot service answer this node with an inspection. Safe to repeat."""
    return _publish(ctx, BootPurpose.INSPECT)


@step(
    name="await-agent",
    title="Wait for the ramdisk and compare its inventory with the site file",
    undo=Undo.NO_EFFECT,
    retry={Unreachable: NEVER},
    # Nothing of their outputs is read, but nobody can do them by hand, and without them there is nobody to wait for.
    needs=("publish-boot-entry", "publish-inspection-entry"),
)
def await_agent(ctx: NodeContext) -> JsonMap:
    """The ramdisk claimed its boot entry, and what it found fits the site file. Safe to repeat.

    Raises Unreachable when nothing was heard (naming the last sign of life), Rejected when the machine does not fit;
    the agent is then told to do nothing more.
    """
    entries, patience = ctx.services.boot_entries, ctx.services.patience
    view = entries.wait_for(
        ctx.name,
        ctx.operation,
        lambda view: view.is_claimed,
        timeout_s=patience.agent_timeout_s,
        patience=patience.boot,
        check=ctx.check,
    )
    inventory = view.inventory or Inventory()
    try:
        disk = _checked_root_disk(ctx, inventory)
    except Rejected as error:
        entries.instruct(node=ctx.name, by=ctx.fence, action=AgentAction.REFUSE, reason=error.message)
        raise
    return {"inventory": inventory.model_dump(mode="json"), "disk": disk}


def _checked_root_disk(ctx: NodeContext, inventory: Inventory) -> str:
    """The kernel's name of the root disk of a machine that fits the site file. Raises Rejected with each difference."""
    required_bytes = ctx.services.image_for(ctx.site, ctx.node).raw_size_bytes if ctx.terms.kind != "inspect" else 0
    mismatches = match_node(ctx.node, inventory, required_bytes=required_bytes)
    if mismatches:
        raise Rejected(
            describe_mismatches(ctx.name, mismatches),
            hint="correct the node in the site file and apply it again, or look at the cabling of its BMC",
        )
    return choose_root_disk(inventory.disks, ctx.node.root_device, required_bytes).name


@step(name="withdraw-boot-entry", title="Take the boot entry away again", undo=Undo.NO_EFFECT)
def withdraw_boot_entry(ctx: NodeContext) -> JsonMap:
    """The node can boot from the network no more. Safe to repeat."""
    return {"withdrawn": ctx.services.boot_entries.withdraw(node=ctx.name, by=ctx.fence)}


@step(name="dismiss-agent", title="Let the ramdisk power the machine off", undo=Undo.NO_EFFECT)
def dismiss_agent(ctx: NodeContext) -> JsonMap:
    """The ramdisk was told to power off; `restore-power` makes sure of it. Safe to repeat."""
    ctx.services.boot_entries.instruct(node=ctx.name, by=ctx.fence, action=AgentAction.POWER_OFF)
    return {}


@step(name="release-inspection-address", title="Give the inspection's address back", undo=Undo.NO_EFFECT)
def release_inspection_address(ctx: NodeContext) -> JsonMap:
    """The node holds no address that this inspection allocated. Safe to repeat."""
    ctx.services.release_address(ctx.site, ctx.node, operation=ctx.operation, fence=ctx.fence)
    return {}
