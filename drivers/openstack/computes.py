"""Compute hosts as nova knows them, and what they carry."""

from __future__ import annotations

from dataclasses import dataclass

from openstack.compute.v2.service import Service
from openstack.connection import Connection


@dataclass(frozen=True, slots=True)
class ComputeReport:
    """How nova sees a compute service."""

    state: str
    """`up` or `down`: whether it was heard of within a minute (nova, service_down_time)."""
    heard: str
    """When it was heard of last, by nova's clock."""


def compute_report(cloud: Connection, host: str) -> ComputeReport | None:
    """How nova sees the host's compute service; None when it has never heard of it. Safe to repeat."""
    service = _service(cloud, host)
    return None if service is None else ComputeReport(str(service.state), str(service.updated_at))


def computes_up(cloud: Connection) -> frozenset[str]:
    """The hosts whose compute service nova sees up. Safe to repeat."""
    return frozenset(s.host for s in cloud.compute.services(binary="nova-compute") if s.state == "up")


def forget_compute(cloud: Connection, host: str) -> bool:
    """Nova does not know the compute service, its cell mapping, its inventory and its zones; whether it did before.

    Safe to repeat. Raises Conflict while the host carries servers. The service must not run: it would register anew.
    Source: compute API reference, DELETE /os-services/{service_id}, microversion 2.53.
    """
    service = _service(cloud, host)
    if service is not None:
        cloud.compute.delete_service(service)
    return service is not None


def servers_on(cloud: Connection, host: str) -> tuple[str, ...]:
    """Names of all servers on the host, of whatever project. Safe to repeat."""
    return tuple(sorted(each.name for each in cloud.compute.servers(details=True, all_projects=True, host=host)))


def volumes_on(cloud: Connection, host: str) -> tuple[str, ...]:
    """Names or identities of all volumes that the host stores. Safe to repeat.

    Source: cinder's API reference, `os-vol-host-attr:host`, HOST@BACKEND#POOL.
    """
    volumes = cloud.block_storage.volumes(details=True, all_projects=True)
    return tuple(sorted(each.name or each.id for each in volumes if (each.host or "").partition("@")[0] == host))


def _service(cloud: Connection, host: str) -> Service | None:
    return next(iter(cloud.compute.services(binary="nova-compute", host=host)), None)
