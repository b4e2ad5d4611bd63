"""Servers in nova: on a named host, in a project; their flavour and key pair."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from openstack import exceptions
from openstack.connection import Connection

from drivers.openstack.removal import Removal

ACTIVE, ERROR = "ACTIVE", "ERROR"
_DELETING = "deleting"
_BY_NOVA = "AUTO: "
_UNPLACED = "No valid host was found"


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """A server on one host. Ids, but for the names."""

    name: str
    host: str
    image: str
    flavor: str
    key_pair: str
    port: str
    user_data: str
    tag: str
    """Of 60 characters at most (nova's schema), which a name with a host in it may exceed."""


@dataclass(frozen=True, slots=True)
class ServerState:
    """What nova says of a server."""

    id: str
    name: str
    status: str
    host: str
    fault: str = ""
    """Why it is in error; empty otherwise."""
    being_deleted: bool = False
    """Nova was asked to delete it, and is at it."""

    @property
    def found_no_host(self) -> bool:
        """The scheduler placed it nowhere: no compute host ever had it."""
        return self.status == ERROR and _UNPLACED in self.fault


def servers_of(cloud: Connection, project: str, *, name: str = "") -> tuple[ServerState, ...]:
    """The project's servers; of this name only, when one is given."""
    listed = cloud.compute.servers(all_projects=True, project_id=project)
    return tuple(_state(each) for each in listed if name in ("", each.name))


def active_servers(cloud: Connection, project: str) -> frozenset[str]:
    """The names of the project's servers that run. Cheaper than `servers_of`, for whoever asks again and again."""
    listed = cloud.compute.servers(details=False, all_projects=True, project_id=project, status=ACTIVE)
    return frozenset(str(each.name) for each in listed)


def server_state(cloud: Connection, server: str) -> ServerState:
    """The server's state. Raises NotFound (of the connection's block) when there is none."""
    return _state(cloud.compute.get_server(server))


def create_server(cloud: Connection, spec: ServerSpec) -> str:
    """A server is being made on the host, by way of the scheduler; its id. Not safe to repeat: look for it first."""
    made = cloud.compute.create_server(
        name=spec.name,
        host=spec.host,
        image_id=spec.image,
        flavor_id=spec.flavor,
        key_name=spec.key_pair,
        networks=[{"port": spec.port}],
        user_data=base64.b64encode(spec.user_data.encode()).decode("ascii"),
        tags=[spec.tag],
    )
    return str(made.id)


def delete_servers(cloud: Connection, project: str, *, name: str = "") -> tuple[ServerState, ...]:
    """The project's servers (of the name) are being deleted; those that still are there. Safe to repeat."""
    left = servers_of(cloud, project, name=name)
    for each in server_removals(cloud, left, again=True):
        each.request()
    return left


def server_removals(cloud: Connection, servers: Iterable[ServerState], *, again: bool) -> Iterator[Removal]:
    """How each of the servers is deleted, which takes nova its time. Safe to repeat.

    `again`: also those that are being deleted. Nova heeds it only where the host went down since: it then deletes the
    server without it (nova/compute/api.py, `_delete`).
    """
    for each in servers:
        if again or not each.being_deleted:
            yield Removal(f"server {each.name}", partial(_delete_at_once, cloud, each.id))


def _delete_at_once(cloud: Connection, server: str) -> None:
    """Also where nova keeps deleted servers for a while (reclaim_instance_interval), with all that they take.

    Source: compute API reference, forceDelete: in whatever state, for members of the project and administrators.
    """
    try:
        cloud.compute.delete_server(server, force=True)
    except exceptions.NotFoundException:
        return  # the request is an action of the server, and knows no `ignore_missing`


@dataclass(frozen=True, slots=True)
class ComputeService:
    """What nova knows of a compute host's service."""

    state: str
    """`up` or `down`."""
    status: str
    """`enabled` or `disabled`."""
    reason: str
    """Why it is disabled; empty otherwise."""

    @property
    def disabled_on_purpose(self) -> bool:
        """Somebody disabled it. Nova does so too, while libvirt does not answer (nova/virt/libvirt/driver.py)."""
        return self.status == "disabled" and not self.reason.startswith(_BY_NOVA)

    @property
    def takes_servers(self) -> bool:
        """It is up and enabled."""
        return self.state == "up" and self.status == "enabled"

    def __str__(self) -> str:
        return f"{self.state} and {self.status}{f' ({self.reason})' if self.reason else ''}"


def compute_service(cloud: Connection, host: str) -> ComputeService | None:
    """The compute service of the host; None where nova knows none."""
    found = next(iter(cloud.compute.services(binary="nova-compute", host=host)), None)
    if found is None:
        return None
    return ComputeService(str(found.state), str(found.status), str(found.disabled_reason or ""))


def ensure_flavor(cloud: Connection, name: str, *, memory_mib: int, disk_gib: int) -> str:
    """There is a flavour of this name with one processor, for the connection's project only; its id."""
    found = cloud.compute.find_flavor(name)
    if found is None:
        found = cloud.compute.create_flavor(name=name, ram=memory_mib, vcpus=1, disk=disk_gib, is_public=False)
    project = str(cloud.current_project_id)
    if project not in {each["tenant_id"] for each in cloud.compute.get_flavor_access(found)}:
        cloud.compute.flavor_add_tenant_access(found, project)
    return str(found.id)


def ensure_key_pair(cloud: Connection, name: str, *, public_key: str) -> None:
    """The connection's user has a key pair of this name. Safe to repeat."""
    if cloud.compute.find_keypair(name) is None:
        cloud.compute.create_keypair(name=name, public_key=public_key)


def named_leftovers(cloud: Connection, name: str) -> tuple[str, ...]:
    """What nova has of this name outside of projects, in words: they stay when somebody deletes a project by hand."""
    return tuple(each.what for each in flavor_and_key_pair_removals(cloud, name))


def compute_leftovers(cloud: Connection, project: str) -> tuple[str, ...]:
    """All that nova and placement have of the project, in words."""
    found = [f"server {each.name} ({each.status})" for each in servers_of(cloud, project)]
    usages = cloud.placement.get("/usages", params={"project_id": project}, microversion="1.9")
    exceptions.raise_from_response(usages)
    return (*found, *(f"{n} {kind} in placement" for kind, n in sorted(usages.json()["usages"].items()) if n))


def flavor_and_key_pair_removals(cloud: Connection, name: str) -> Iterator[Removal]:
    """How the flavour and the key pair of this name are removed, where there are any. Safe to repeat."""
    if flavor := cloud.compute.find_flavor(name):
        yield Removal(f"flavour {name}", partial(cloud.compute.delete_flavor, flavor, ignore_missing=True))
    if cloud.compute.find_keypair(name) is not None:
        yield Removal(f"key pair {name}", partial(cloud.compute.delete_keypair, name, ignore_missing=True))


def _state(server: Any) -> ServerState:
    fault = server.fault or {}
    words = [str(fault.get("message", ""))]
    # To administrators nova tells the last lines of the traceback too; the last one is the cause.
    words += [line for line in str(fault.get("details", "")).strip().splitlines()[-1:] if words[0] not in line]
    return ServerState(
        id=str(server.id),
        name=str(server.name),
        status=str(server.status),
        host=str(server.compute_host or ""),
        fault=": ".join(word for word in words if word),
        being_deleted=server.task_state == _DELETING,
    )
