"""Steps that put an operating system on the disk."""

from __future__ import annotations

from levier.domain.errors import OutcomeUnknown, Unreachable
from levier.domain.operation import JsonMap
from levier.domain.retry import NEVER
from levier.saga.step import Checkpoint, step
from levier.services.context import NodeContext


def _forget_host_key(ctx: NodeContext, checkpoint: Checkpoint) -> JsonMap:
    """No key pair of this operation is kept for the host."""
    ctx.guard()
    return {"deleted": ctx.services.forget_host_key(ctx.name, operation=ctx.operation)}


@step(name="create-host-key", title="Make the host's SSH key before the host exists", undo=_forget_host_key)
def create_host_key(ctx: NodeContext) -> JsonMap:
    """The host's key pair exists, the private half encrypted. Safe to repeat: the same key is kept.

    Because it is made beforehand and travels in the seed, the very first SSH connection is verified.
    """
    ctx.guard()  # keys are files, which no fence of the store protects
    return {"host_key": ctx.services.ensure_host_key(ctx.name, operation=ctx.operation)}


def _disk_is_nobodys(ctx: NodeContext, checkpoint: Checkpoint) -> JsonMap:
    """Nothing is claimed of the disk any more: the node record names no OS.

    The content from before is not brought back: an enrolled node's disks are disposable by declaration
    (docs/decisions/0100). What stands on the disk is recorded.
    """
    ctx.services.nodes.update_facts(ctx.name, fence=ctx.fence, os="", kernel="", revision=0)
    stands = f"image {ctx.node.image}" if checkpoint.outputs else f"perhaps part of image {ctx.node.image}"
    return {"disk_content": stands}


@step(
    name="write-image",
    title="Write the image and its seed to the root disk, verified",
    undo=_disk_is_nobodys,
    retry={Unreachable: NEVER, OutcomeUnknown: NEVER},
    needs=("await-agent", "allocate-address", "create-host-key"),
)
def write_image(ctx: NodeContext) -> JsonMap:
    """The root disk holds the verified image and this host's seed. Safe to repeat: a finished write is not repeated.

    Raises Rejected with the agent's own cause.
    """
    disk = str(ctx.outputs("await-agent")["disk"])
    image = ctx.services.image_for(ctx.site, ctx.node)
    address = str(ctx.outputs("allocate-address")["address"])
    seed = ctx.services.seed_for(ctx.site, ctx.node, address, operation=ctx.operation)
    entries = ctx.services.boot_entries
    # Does nothing when this very write was asked for before: see BootEntries.instruct_write.
    entries.instruct_write(node=ctx.name, by=ctx.fence, disk=disk, image=image, seed=seed)
    patience = ctx.services.patience
    entries.wait_for(
        ctx.name,
        ctx.operation,
        lambda view: view.is_written,
        timeout_s=patience.write_timeout_s,
        patience=patience.boot,
        # Cancelled between two looks: the agent still writes until the undo of `power-on` cuts its power, a moment
        # later. Half an image is on the disk either way (docs/decisions/0143).
        check=ctx.check,
    )
    return {"image": image.name, "sha256": image.sha256, "disk": disk}
