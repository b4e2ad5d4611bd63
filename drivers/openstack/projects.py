"""A project of its own, entered by whoever made it, and its quotas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from openstack.connection import Connection

from drivers.openstack.catalog import DOMAIN, identity

ROLE = "admin"
"""Servers are put on a named host by administrators only."""


@dataclass(frozen=True, slots=True)
class Quota:
    """What a project may have at once."""

    servers: int
    memory_mib: int
    volumes: int
    volumes_gib: int
    ports: int


def find_project(cloud: Connection, name: str) -> str | None:
    """The project's id; None when there is none. Nothing is changed."""
    found = identity(cloud).find_project(name, domain_id=DOMAIN)
    return None if found is None else str(found.id)


def projects_named(cloud: Connection, prefix: str) -> tuple[str, ...]:
    """The names of the projects that begin so."""
    return tuple(sorted(p.name for p in identity(cloud).projects(domain_id=DOMAIN) if p.name.startswith(prefix)))


def ensure_project(cloud: Connection, name: str, *, description: str) -> str:
    """The project exists, and the connection's user is its administrator; its id. Safe to repeat."""
    found = find_project(cloud, name)
    if found is None:
        found = str(identity(cloud).create_project(name=name, domain_id=DOMAIN, description=description).id)
    user, role = str(cloud.current_user_id), identity(cloud).find_role(ROLE, ignore_missing=False)
    if not identity(cloud).validate_user_has_project_role(found, user, role):
        identity(cloud).assign_project_role_to_user(found, user, role)
    return found


def remove_project(cloud: Connection, project: str) -> None:
    """There is no such project. Safe to repeat. What is in it is not removed by this."""
    identity(cloud).delete_project(project, ignore_missing=True)


def ensure_quota(cloud: Connection, project: str, quota: Quota, *, services: Mapping[str, bool]) -> None:
    """The project may have as much. `services`: whether there is `compute`, `network`, `volume`. Safe to repeat."""
    if services.get("compute"):
        servers = quota.servers
        cloud.compute.update_quota_set(project, instances=servers, cores=servers, ram=quota.memory_mib)
    if services.get("network"):
        cloud.network.update_quota(project, ports=quota.ports)
    if services.get("volume"):
        cloud.block_storage.update_quota_set(project, volumes=quota.volumes, gigabytes=quota.volumes_gib)


def remove_quota(cloud: Connection, project: str, *, services: Mapping[str, bool]) -> None:
    """The project has no quota of its own. Safe to repeat."""
    if services.get("compute"):
        cloud.compute.revert_quota_set(project)
    if services.get("network"):
        cloud.network.delete_quota(project, ignore_missing=True)
    if services.get("volume"):
        cloud.block_storage.revert_quota_set(project)
