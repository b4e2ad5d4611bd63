"""Compute hosts as nova knows them, and what they carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keystoneauth1.exceptions import ClientException
from openstack import exceptions
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


@dataclass(frozen=True, slots=True)
class Room:
    """What a compute host has of one class of resources, in its unit: VCPU, MEMORY_MB, DISK_GB."""

    free: int
    used: int


def room_on(cloud: Connection, host: str) -> dict[str, Room]:
    """Class of resources → the host's room for servers, as the scheduler counts it; empty where nobody tells.

    Source: placement's API reference: (total - reserved) × allocation_ratio, less what is used.
    """
    try:
        provider = _hypervisor(cloud, host)
        if provider is None:
            return {}
        inventories = _of_provider(cloud, provider, "inventories")
        used = _of_provider(cloud, provider, "usages")
    except (exceptions.SDKException, ClientException):
        return {}  # it is asked for to explain another error, which is not to be lost
    return {kind: _room(has, used.get(kind, 0)) for kind, has in inventories.items()}


def _room(inventory: Mapping[str, float], used: int) -> Room:
    meant = (inventory["total"] - inventory["reserved"]) * inventory["allocation_ratio"]
    return Room(free=int(meant) - used, used=used)


def _hypervisor(cloud: Connection, host: str) -> str | None:
    """Its id, which is also that of its resource provider. Its name may have a domain after the host's."""
    listed = cloud.compute.hypervisors(details=True, hypervisor_hostname_pattern=host)
    return next((str(each.id) for each in listed if (each.service_details or {}).get("host") == host), None)


def _of_provider(cloud: Connection, provider: str, what: str) -> dict[str, Any]:
    answer = cloud.placement.get(f"/resource_providers/{provider}/{what}")
    exceptions.raise_from_response(answer)
    told: dict[str, Any] = answer.json()[what]
    return told


def _service(cloud: Connection, host: str) -> Service | None:
    return next(iter(cloud.compute.services(binary="nova-compute", host=host)), None)
