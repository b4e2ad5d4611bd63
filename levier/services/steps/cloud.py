"""Steps on the cloud's own APIs: the catalogue, and availability zones."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from openstack.connection import Connection

from drivers.openstack import catalog as keystone
from drivers.openstack.access import find_credential, new_credential, remove_credential
from drivers.openstack.catalog import CatalogItem, Found
from drivers.openstack.computes import compute_report, computes_up, forget_compute, servers_on, volumes_on
from drivers.openstack.connection import cloud_connection
from drivers.openstack.drained import disable_services, disabled_services, enable_services
from drivers.openstack.zones import ensure_zones, find_zones, restore_zones
from levier.domain import install_plan
from levier.domain.component import Component
from levier.domain.component_placement import components_of
from levier.domain.errors import Conflict, Rejected
from levier.domain.node import NodeState
from levier.domain.operation import JsonMap
from levier.saga.step import Checkpoint, step
from levier.services.cloud import ACCESS, ACCESS_SECRET, DRAINED
from levier.services.context import NodeContext, NodeStep
from levier.services.polling import wait_on
from levier.services.steps.lost import unless_lost
from levier.services.steps.record import state_before

_UNIT = "levier-nova-compute.service"
_STOP_S = 180.0
_SHOWN = 5
_REGISTRATION_S = 180.0
"""A compute service reports every 10 s; one on a slow machine starts for a minute."""


@contextmanager
def _cloud(ctx: NodeContext) -> Iterator[Connection]:
    with cloud_connection(ctx.cloud.login(ctx.site), ctx.guard) as connection:
        yield connection


def _items(ctx: NodeContext, component: Component) -> tuple[CatalogItem, ...]:
    return ctx.cloud.catalog(ctx.site, component)


def catalog(component: Component) -> NodeStep:
    """The component's services, endpoints and users are in keystone."""

    def before(ctx: NodeContext) -> JsonMap:
        with _cloud(ctx) as cloud:
            return keystone.find(cloud, _items(ctx, component)).model_dump(mode="json")

    def remove(ctx: NodeContext, checkpoint: Checkpoint) -> JsonMap:
        with _cloud(ctx) as cloud:
            removed = keystone.remove(cloud, _items(ctx, component), keep=Found.model_validate(checkpoint.before))
        return {"removed": list(removed)}

    @step(
        name=install_plan.catalog(component.name),
        title=f"{component.name} in the catalogue",
        undo=remove,
        before=before,
    )
    def do(ctx: NodeContext) -> JsonMap:
        ctx.cloud.ensure_secrets(component)
        with _cloud(ctx) as cloud:
            return {"changed": list(keystone.ensure(cloud, _items(ctx, component)))}

    return do


def _access_before(ctx: NodeContext) -> JsonMap:
    with _cloud(ctx) as cloud:
        return {"credential": find_credential(cloud, ACCESS)}


def _withdraw_access(ctx: NodeContext, checkpoint: Checkpoint) -> JsonMap:
    """The login of this operation is of no use any more. One that was there before stays."""
    if checkpoint.before.get("credential"):
        return {"changed": []}
    with _cloud(ctx) as cloud:
        removed = remove_credential(cloud, ACCESS)
    ctx.guard()
    if ACCESS_SECRET in ctx.cloud.secrets.names():
        ctx.cloud.secrets.delete(ACCESS_SECRET)
    return {"changed": [ACCESS] if removed else []}


@step(
    name=install_plan.ACCESS,
    title="Operators have a login of their own",
    undo=_withdraw_access,
    before=_access_before,
)
def access(ctx: NodeContext) -> JsonMap:
    """Operators have an application credential, and its secret is in the secret store. Safe to repeat.

    One whose secret is not known, as after a crash between both, is replaced.
    """
    secrets = ctx.cloud.secrets
    with _cloud(ctx) as cloud:
        present = find_credential(cloud, ACCESS)
        known = secrets.get(ACCESS_SECRET)["id"] if ACCESS_SECRET in secrets.names() else None
        if present is not None and present == known:
            return {"changed": []}
        made = new_credential(cloud, ACCESS, description="Made by Levier: levier cloud access")
    ctx.guard()
    secrets.set(ACCESS_SECRET, {"id": made.id, "secret": made.secret})
    return {"changed": [ACCESS]}


def _forget_compute(ctx: NodeContext, checkpoint: Checkpoint) -> JsonMap:
    """Nova does not know the host, unless it was in service before. Its service is stopped first: it would register
    anew.

    Nova's own word of before is no guide: a compute service registers when it starts, before anybody waits for it.
    """
    if checkpoint.before.get("state") == NodeState.IN_SERVICE.value:
        return {"changed": []}
    ctx.own_host().run(f"systemctl stop -- {_UNIT}", timeout_s=_STOP_S)
    with _cloud(ctx) as cloud:
        return {"changed": [ctx.name] if forget_compute(cloud, ctx.name) else []}


@step(
    name=install_plan.REGISTERED,
    title="Wait until nova sees the compute host up",
    undo=unless_lost(_forget_compute),
    before=state_before,
)
def registered(ctx: NodeContext) -> JsonMap:
    """Nova sees the host's compute service up, and heard of it meanwhile: what it said a minute ago may be the last.

    Safe to repeat. Raises Rejected with how nova sees it.
    """
    with _cloud(ctx) as cloud:
        before = now = compute_report(cloud, ctx.name)

        def look() -> bool:
            nonlocal now
            now = compute_report(cloud, ctx.name)
            return now is not None and now.state == "up" and (before is None or now.heard != before.heard)

        waited = wait_on(ctx.own_host(), look, timeout_s=_REGISTRATION_S, check=ctx.check)
        if waited.seconds is None:
            seen = "nova has never heard of it" if now is None else f"nova sees it {now.state}, heard of at {now.heard}"
            raise Rejected(
                f"the compute host {ctx.name} did not register within {waited.limit_s:.0f} s: {seen}",
                hint=f"on {ctx.name}: journalctl -u {_UNIT}",
            )
    return {"changed": [ctx.name] if before is None else []}


def _drained_before(ctx: NodeContext) -> JsonMap:
    with _cloud(ctx) as cloud:
        return {"services": list(disabled_services(cloud, ctx.name, DRAINED, _workers(ctx)))}


def _disable_again(ctx: NodeContext, checkpoint: Checkpoint) -> JsonMap:
    services = checkpoint.before.get("services", ())
    with _cloud(ctx) as cloud:
        return {"changed": list(disable_services(cloud, ctx.name, DRAINED, services))}


def _workers(ctx: NodeContext) -> frozenset[str]:
    return frozenset(ctx.cloud.on(ctx.site, ctx.node)) & {install_plan.COMPUTE, install_plan.VOLUMES}


@step(
    name=install_plan.TAKES_WORK,
    title="Take work again after a drain of Levier's",
    undo=unless_lost(_disable_again),
    before=_drained_before,
)
def takes_work(ctx: NodeContext) -> JsonMap:
    """The host's services that Levier took out of service take work again. Those that an operator disabled do not.

    Nova and cinder remember it of a host that was drained, whatever became of the host since. Safe to repeat.
    """
    with _cloud(ctx) as cloud:
        return {"changed": list(enable_services(cloud, ctx.name, DRAINED, _workers(ctx)))}


def _zones_before(ctx: NodeContext) -> JsonMap:
    with _cloud(ctx) as cloud:
        return {"zones": find_zones(cloud)}


def _restore_zones(ctx: NodeContext, checkpoint: Checkpoint) -> JsonMap:
    with _cloud(ctx) as cloud:
        restore_zones(cloud, checkpoint.before.get("zones", {}), ctx.cloud.zones(ctx.site))
    return {}


@step(
    name=install_plan.ZONES,
    title="Zones are availability zones",
    undo=_restore_zones,
    before=_zones_before,
)
def zones(ctx: NodeContext) -> JsonMap:
    """Each zone of the site is an availability zone with the compute hosts in it that are up. Safe to repeat.

    A host that came from another zone has left that one. Raises Conflict when it carries servers. One that is not up
    fell out of the operation, or is down since; it joins its zone with the next installation.
    """
    with _cloud(ctx) as cloud:
        up = computes_up(cloud)
        all_hosts = ctx.cloud.zones(ctx.site)
        wanted = {zone: [host for host in hosts if host in up] for zone, hosts in all_hosts.items()}
        changed = list(ensure_zones(cloud, wanted))
    return {"changed": changed, "not_up": [host for hosts in all_hosts.values() for host in hosts if host not in up]}


def refuse_to_forget_load(ctx: NodeContext) -> None:
    """Databases that this operation gave another schema may go back to their dumps. Raises Conflict while the cloud
    carries load: a service that is given its database of then knows nothing of what was made since."""
    own = components_of(ctx.site, ctx.node, ctx.cloud.components)
    steps = [install_plan.act(each.name, action.name) for each in own for action in each.actions if action.dump_before]
    changed = [words for step in steps for words in ctx.outputs_if_any(step).get("changed", ())]
    if not changed:
        return
    with _cloud(ctx) as cloud:
        load = [words for node in ctx.site.nodes for words in _load(cloud, node.name, ctx.cloud.on(ctx.site, node))]
    if load:
        raise Conflict(
            f"{ctx.operation} changed the {', the '.join(changed)}: undone, the databases are those of before it, and "
            f"what was made since is lost. The cloud carries {_some(load)}",
            hint="delete that load, then resume the operation; or skip this step, if all of it is older than the "
            "operation",
        )


def refuse_load(ctx: NodeContext) -> None:
    """The host carries no server and stores no volume. Raises Conflict naming what it carries."""
    own = _workers(ctx)
    if not own:
        return
    with _cloud(ctx) as cloud:
        load = _load(cloud, ctx.name, own)
    if load:
        raise Conflict(
            f"{ctx.name} carries load that would be lost: {_some(load)}",
            hint="move or delete it, then resume the operation",
        )


def _load(cloud: Connection, host: str, components: Collection[str]) -> list[str]:
    load = [f"server {name}" for name in (servers_on(cloud, host) if install_plan.COMPUTE in components else ())]
    return load + [f"volume {name}" for name in (volumes_on(cloud, host) if install_plan.VOLUMES in components else ())]


def _some(load: list[str]) -> str:
    return ", ".join(load[:_SHOWN]) + (f" and {len(load) - _SHOWN} more" if len(load) > _SHOWN else "")
