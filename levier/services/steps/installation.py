"""Steps of an installation that concern a host as a whole: reached, given its release, put in service."""

from __future__ import annotations

from drivers.bundle.host import ensure_absent, ensure_unpacked, observe
from levier.domain import install_plan
from levier.domain.errors import OutcomeUnknown, Unreachable
from levier.domain.node import NodeState
from levier.domain.operation import JsonMap
from levier.saga.step import Checkpoint, Undo, step
from levier.services.context import NodeContext
from levier.services.steps.record import back_to, state_before


@step(name=install_plan.REACH, title="Log in to the host by SSH", undo=Undo.NO_EFFECT)
def reach_host(ctx: NodeContext) -> JsonMap:
    """The host answers with the key that was made for it. Safe to repeat."""
    facts = ctx.own_host().facts()
    return {"os": facts.os_pretty, "kernel": facts.kernel}


def _bundles_before(ctx: NodeContext) -> JsonMap:
    """Which releases the host has already."""
    return {"identities": sorted(observe(ctx.own_host()).bundles)}


def _remove_bundle(ctx: NodeContext, checkpoint: Checkpoint) -> JsonMap:
    """The host has no release that it did not have before; one that no longer answers is abandoned with its disk."""
    identity = ctx.cloud.bundle(ctx.site, ctx.node).manifest.identity
    if identity in checkpoint.before.get("identities", ()):
        return {"removed": None}
    try:
        return {"removed": identity if ensure_absent(ctx.own_host(), identity) else None}
    except (Unreachable, OutcomeUnknown) as error:
        return {"removed": None, "note": f"the host does not answer: {error}"}


@step(
    name=install_plan.UNPACK,
    title="Fetch the release and unpack it beside others",
    undo=_remove_bundle,
    before=_bundles_before,
)
def unpack_bundle(ctx: NodeContext) -> JsonMap:
    """The release of the site is on the host, verified and complete; nothing uses it yet. Safe to repeat."""
    manifest = ctx.cloud.bundle(ctx.site, ctx.node).manifest
    delivery = ensure_unpacked(ctx.own_host(), manifest, ctx.cloud.bundle_url(ctx.site, ctx.node))
    return {
        "release": manifest.release,
        "identity": manifest.identity,
        "was_present": delivery.was_present,
        "fetched_mib": round(delivery.fetched_bytes / 2**20, 1),
    }


@step(
    name=install_plan.IN_SERVICE,
    title="Record that the host may carry workload",
    undo=back_to,
    before=state_before,
)
def mark_in_service(ctx: NodeContext) -> JsonMap:
    """The node is `in_service`. Safe to repeat."""
    expected = [NodeState.READY, NodeState.IN_SERVICE]
    ctx.services.nodes.set_state(ctx.name, NodeState.IN_SERVICE, expected=expected, fence=ctx.fence)
    return {"state": NodeState.IN_SERVICE.value}
