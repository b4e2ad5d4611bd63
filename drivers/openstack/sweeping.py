"""All that one project has in all services, listed and removed; what a failing service keeps is told."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from keystoneauth1.exceptions import ClientException
from openstack.connection import Connection
from openstack.exceptions import SDKException

from drivers.openstack.images import images_of, remove_images
from drivers.openstack.networks import network_leftovers, remove_networks
from drivers.openstack.projects import find_project, remove_project, remove_quota
from drivers.openstack.servers import compute_leftovers, delete_servers, remove_flavor_and_key_pair
from drivers.openstack.volumes import delete_volumes, volume_leftovers

COMPUTE, NETWORK, IMAGE, VOLUME = "compute", "network", "image", "volume"
"""Services that a cloud may have."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What was removed, and what is left, in words; a service that failed is named with its error."""

    removed: tuple[str, ...]
    left: tuple[str, ...]


def leftovers(cloud: Connection, name: str, services: Collection[str]) -> tuple[str, ...]:
    """All that the project of this name has in any of the services, and what outside of projects has its name."""
    collected = _Collected()
    project = find_project(cloud, name)
    if project is None:
        return ()
    collected.find(COMPUTE in services, "nova", lambda: compute_leftovers(cloud, project, name))
    collected.find(VOLUME in services, "cinder", lambda: volume_leftovers(cloud, project))
    collected.find(NETWORK in services, "neutron", lambda: network_leftovers(cloud, project))
    collected.find(IMAGE in services, "glance", lambda: [f"image {each.name}" for each in images_of(cloud, project)])
    return tuple(collected.left)


def sweep(cloud: Connection, name: str, services: Collection[str]) -> Swept:
    """One pass: what can be deleted now is being deleted; the project goes once nothing else is left. Safe to repeat.

    A server takes its time, and others wait for it: repeat until nothing is left.
    """
    project = find_project(cloud, name)
    if project is None:
        return Swept((), ())
    pass_ = _Collected()
    pass_.remove(COMPUTE in services, "nova", lambda: [f"server {s.name}" for s in delete_servers(cloud, project)])
    # While servers hold them, ports and volumes stay.
    if not pass_.removed:
        pass_.remove(VOLUME in services, "cinder", lambda: [f"volume {v.name}" for v in delete_volumes(cloud, project)])
        pass_.remove(NETWORK in services, "neutron", lambda: remove_networks(cloud, project))
        pass_.remove(IMAGE in services, "glance", lambda: remove_images(cloud, project))
        pass_.remove(COMPUTE in services, "nova", lambda: remove_flavor_and_key_pair(cloud, name))
    left = leftovers(cloud, name, services)
    if not left and not pass_.left:
        present = {service: service in services for service in (COMPUTE, NETWORK, VOLUME)}
        pass_.remove(True, "quota", lambda: _without_quota(cloud, project, present))
        if not pass_.left:
            remove_project(cloud, project)
            pass_.removed.append(f"project {name}")
            return Swept(tuple(pass_.removed), ())
    return Swept(tuple(pass_.removed), tuple(dict.fromkeys((*left, *pass_.left, f"project {name}"))))


def _without_quota(cloud: Connection, project: str, services: Mapping[str, bool]) -> Sequence[str]:
    remove_quota(cloud, project, services=services)
    return ()


class _Collected:
    def __init__(self) -> None:
        self.removed: list[str] = []
        self.left: list[str] = []

    def find(self, wanted: bool, service: str, look: Callable[[], Sequence[str]]) -> None:
        self._try(wanted, service, look, self.left)

    def remove(self, wanted: bool, service: str, act: Callable[[], Sequence[str]]) -> None:
        self._try(wanted, service, act, self.removed)

    def _try(self, wanted: bool, service: str, act: Callable[[], Sequence[str]], into: list[str]) -> None:
        if not wanted:
            return
        try:
            into.extend(act())
        except (SDKException, ClientException) as error:
            self.left.append(f"whatever {service} has: {error}")
