"""Steps of an installation that concern a host as a whole: reached, given its release, put in service."""

from __future__ import annotations

from drivers.baseline import verify_clock
from drivers.bundle.host import ensure_absent, ensure_only, ensure_unpacked, observe
from drivers.packages import open_packages
from levier.domain import install_plan
from levier.domain.errors import Rejected
from levier.domain.node import NodeState
from levier.domain.operation import JsonMap
from levier.domain.package_sources import PackageSources
from levier.domain.packages import InstalledPackages, PackageChange, PackageManager, SourcesState
from levier.saga.step import Checkpoint, Undo, step
from levier.services.context import NodeContext
from levier.services.steps.cloud import refuse_load, refuse_to_forget_load
from levier.services.steps.drain import drain_host
from levier.services.steps.lost import unless_lost
from levier.services.steps.record import back_to, state_before

_CLOCK_TOLERANCE_S = 10.0


@step(name=install_plan.REACH, title="Log in to the host by SSH", undo=Undo.NO_EFFECT)
def reach_host(ctx: NodeContext) -> JsonMap:
    """The host answers with the key that was made for it, and its clock is right to 10 seconds. Safe to repeat.

    Services that are late by a minute count as dead to each other (nova, service_down_time). Raises Rejected with the
    offset.
    """
    host = ctx.own_host()
    facts = host.facts()
    try:
        patience_s = ctx.services.patience.clock_timeout_s
        offset_s = verify_clock(host, timeout_s=patience_s, tolerance_s=_CLOCK_TOLERANCE_S, check=ctx.check)
    except Rejected as error:
        raise Rejected(f"{ctx.name}: {error.message}", hint=error.hint) from error
    return {"changed": [], "os": facts.os_pretty, "kernel": facts.kernel, "clock_offset_s": round(offset_s, 1)}


def _packages(ctx: NodeContext) -> PackageManager:
    host = ctx.own_host()
    return open_packages(host, name=ctx.name, os_id=host.facts().os_id)


def _sources(ctx: NodeContext) -> PackageSources:
    return ctx.site.site.packages or PackageSources()


def _sources_before(ctx: NodeContext) -> JsonMap:
    return {"sources": _packages(ctx).sources().model_dump(mode="json")}


def _restore_sources(ctx: NodeContext, checkpoint: Checkpoint) -> JsonMap:
    """Packages come from where they came from."""
    before = SourcesState.model_validate(checkpoint.before["sources"])
    return {"changed": list(_packages(ctx).restore_sources(before))}


@step(
    name=install_plan.SOURCES,
    title="Say where packages come from",
    undo=unless_lost(_restore_sources),
    before=_sources_before,
)
def package_sources(ctx: NodeContext) -> JsonMap:
    """Packages of the distribution come from where the site file says, or from the image's own sources."""
    return {"changed": list(_packages(ctx).ensure_sources(_sources(ctx)))}


def _installed_before(ctx: NodeContext) -> JsonMap:
    return {"packages": _packages(ctx).installed().model_dump(mode="json")}


def _restore_packages(ctx: NodeContext, checkpoint: Checkpoint) -> JsonMap:
    """The host has the packages it had. An updated one stays newer where no mirror has its old version any more."""
    before = InstalledPackages.model_validate(checkpoint.before["packages"])
    return {"changed": _words(_packages(ctx).restore(before, may_stay_newer=_sources(ctx).may_update))}


def _words(change: PackageChange) -> list[str]:
    return [
        *(f"{name} {version}" for name, version in change.added.items()),
        *(f"{name} was {version}" for name, version in change.changed.items()),
        *(f"{name} removed" for name in change.removed),
    ]


@step(
    name=install_plan.PACKAGES,
    title="Install packages of the distribution",
    undo=unless_lost(_restore_packages),
    before=_installed_before,
)
def install_packages(ctx: NodeContext) -> JsonMap:
    """Everything that the host's components need of its distribution is installed; none of it was started."""
    names, may_update = ctx.cloud.packages(ctx.site, ctx.node), _sources(ctx).may_update
    return {"changed": _words(_packages(ctx).ensure_installed(names, may_change=may_update))}


def _bundles_before(ctx: NodeContext) -> JsonMap:
    """Which releases the host has already."""
    return {"identities": sorted(observe(ctx.own_host()).bundles)}


def _remove_bundle(ctx: NodeContext, checkpoint: Checkpoint) -> JsonMap:
    """The host has no release that it did not have before, unless links from before lead to it.

    They led nowhere then: somebody had taken the release away under running services, and is not helped by doing so
    again. Which release it was, the log says or the host: Levier's shelf may hold another build by now, or none.
    """
    before, host = checkpoint.before.get("identities", ()), ctx.own_host()
    if checkpoint.outputs is None:
        return {"changed": list(ensure_only(host, before))}
    identity = str(checkpoint.outputs["identity"])
    if identity in before or identity in observe(host).links.values():
        return {"changed": []}
    return {"changed": [identity] if ensure_absent(host, identity) else []}


@step(
    name=install_plan.UNPACK,
    title="Fetch the release and unpack it beside others",
    undo=unless_lost(_remove_bundle),
    before=_bundles_before,
)
def unpack_bundle(ctx: NodeContext) -> JsonMap:
    """The release of the site is on the host, verified and complete; nothing uses it yet. Safe to repeat."""
    manifest = ctx.cloud.bundle(ctx.site, ctx.node).manifest
    delivery = ensure_unpacked(ctx.own_host(), manifest, ctx.cloud.bundle_url(ctx.site, ctx.node))
    return {
        "release": manifest.release,
        "identity": manifest.identity,
        "changed": [] if delivery.was_present else [manifest.identity],
        "fetched_mib": round(delivery.fetched_bytes / 2**20, 1),
    }


def _out_of_service(ctx: NodeContext, checkpoint: Checkpoint) -> JsonMap:
    """The node is what it was; where that is not in service, drained. Raises Conflict when load would be lost."""
    if checkpoint.before.get("state") == NodeState.IN_SERVICE.value:
        refuse_to_forget_load(ctx)
        return back_to(ctx, checkpoint)
    # In this order: what is placed on the host between the look and the end would be lost.
    drained = drain_host(ctx, checkpoint)
    refuse_load(ctx)
    return {**drained, **back_to(ctx, checkpoint)}


@step(
    name=install_plan.IN_SERVICE,
    title="Record that the host may carry workload",
    undo=_out_of_service,
    before=state_before,
)
def mark_in_service(ctx: NodeContext) -> JsonMap:
    """The node is `in_service`. Safe to repeat."""
    before = ctx.services.nodes.get(ctx.name).state
    expected = [NodeState.READY, NodeState.IN_SERVICE]
    ctx.services.nodes.set_state(ctx.name, NodeState.IN_SERVICE, expected=expected, fence=ctx.fence)
    return {"changed": [] if before is NodeState.IN_SERVICE else [NodeState.IN_SERVICE.value]}
