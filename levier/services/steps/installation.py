"""Steps of an installation that concern a host as a whole: reached, given its release, put in service."""

from __future__ import annotations

from drivers.bundle.host import ensure_absent, ensure_unpacked, observe
from drivers.packages import open_packages
from levier.domain import install_plan
from levier.domain.errors import OutcomeUnknown, Unreachable
from levier.domain.node import NodeState
from levier.domain.operation import JsonMap
from levier.domain.package_sources import PackageSources
from levier.domain.packages import InstalledPackages, PackageManager, SourcesState
from levier.saga.step import Checkpoint, Undo, step
from levier.services.context import NodeContext
from levier.services.steps.record import back_to, state_before


@step(name=install_plan.REACH, title="Log in to the host by SSH", undo=Undo.NO_EFFECT)
def reach_host(ctx: NodeContext) -> JsonMap:
    """The host answers with the key that was made for it. Safe to repeat."""
    facts = ctx.own_host().facts()
    return {"os": facts.os_pretty, "kernel": facts.kernel}


def _packages(ctx: NodeContext) -> PackageManager:
    host = ctx.own_host()
    return open_packages(host, name=ctx.name, os_id=host.facts().os_id)


def _sources_before(ctx: NodeContext) -> JsonMap:
    return {"sources": _packages(ctx).sources().model_dump(mode="json")}


def _restore_sources(ctx: NodeContext, checkpoint: Checkpoint) -> JsonMap:
    """Packages come from where they came from; a host that no longer answers is abandoned with its disk."""
    before = SourcesState.model_validate(checkpoint.before["sources"])
    try:
        return {"changed": list(_packages(ctx).restore_sources(before))}
    except (Unreachable, OutcomeUnknown) as error:
        return {"changed": [], "note": f"the host does not answer: {error}"}


@step(
    name=install_plan.SOURCES,
    title="Say where packages come from",
    undo=_restore_sources,
    before=_sources_before,
)
def package_sources(ctx: NodeContext) -> JsonMap:
    """Packages of the distribution come from where the site file says, or from the image's own sources."""
    return {"changed": list(_packages(ctx).ensure_sources(ctx.site.site.packages or PackageSources()))}


def _installed_before(ctx: NodeContext) -> JsonMap:
    return {"packages": _packages(ctx).installed().model_dump(mode="json")}


def _restore_packages(ctx: NodeContext, checkpoint: Checkpoint) -> JsonMap:
    """The host has the packages it had; one that no longer answers is abandoned with its disk."""
    before = InstalledPackages.model_validate(checkpoint.before["packages"])
    try:
        return _packages(ctx).restore(before).model_dump(mode="json")
    except (Unreachable, OutcomeUnknown) as error:
        return {"note": f"the host does not answer: {error}"}


@step(
    name=install_plan.PACKAGES,
    title="Install packages of the distribution",
    undo=_restore_packages,
    before=_installed_before,
)
def install_packages(ctx: NodeContext) -> JsonMap:
    """Everything that the host's components need of its distribution is installed; none of it was started."""
    names = ctx.cloud.packages(ctx.site, ctx.node)
    manager = _packages(ctx)
    if set(names) - manager.installed().versions.keys():
        manager.refresh()
    return manager.ensure_installed(names).model_dump(mode="json")


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
