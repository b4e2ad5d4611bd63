"""Steps on the cloud's own APIs: the catalogue, and availability zones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from openstack.connection import Connection

from drivers.openstack import catalog as keystone
from drivers.openstack.catalog import CatalogItem, Found
from drivers.openstack.connection import cloud_connection
from drivers.openstack.zones import ensure_zones, find_zones, restore_zones
from levier.domain import install_plan
from levier.domain.component import Component
from levier.domain.operation import JsonMap
from levier.saga.step import Checkpoint, step
from levier.services.context import NodeContext, NodeStep


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
    """Each zone of the site is an availability zone with the compute hosts that stand in it. Safe to repeat."""
    with _cloud(ctx) as cloud:
        return {"changed": list(ensure_zones(cloud, ctx.cloud.zones(ctx.site)))}
