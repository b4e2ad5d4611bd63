"""All that one project has in all services, listed and removed; what a failing service keeps is told."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from keystoneauth1.exceptions import ClientException
from openstack.connection import Connection
from openstack.exceptions import HttpException, SDKException

from drivers.openstack.connection import is_busy
from drivers.openstack.images import image_removals, images_of
from drivers.openstack.networks import network_leftovers, network_removals
from drivers.openstack.projects import find_project, remove_project, remove_quota
from drivers.openstack.removal import Removal
from drivers.openstack.servers import (
    compute_leftovers,
    flavor_and_key_pair_removals,
    named_leftovers,
    server_removals,
    servers_of,
)
from drivers.openstack.volumes import volume_leftovers, volume_removals

COMPUTE, NETWORK, IMAGE, VOLUME = "compute", "network", "image", "volume"
"""Services that a cloud may have."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What was removed, and what is left, in words; what refused is named with its error."""

    removed: tuple[str, ...]
    left: tuple[str, ...]
    all_seen: bool = True
    """Every service told what it has; otherwise `left` names those that did not, and is no measure."""


def leftovers(cloud: Connection, name: str, services: Collection[str]) -> tuple[str, ...]:
    """All that the project of this name has in any of the services, and what outside of projects has its name."""
    return tuple(_listed(cloud, name, services).left)


def sweep(cloud: Connection, name: str, services: Collection[str], *, again: bool = False) -> Swept:
    """One pass: what can be deleted now is being deleted; the project goes once nothing else is left. Safe to repeat.

    A server takes its time, and others wait for it: repeat until nothing is left. What one thing refuses is told, and
    keeps no other. `again`: servers that are being deleted are asked again.
    """
    project = find_project(cloud, name)
    pass_ = _Pass()
    if project is None:
        pass_.remove(COMPUTE in services, "nova", lambda: flavor_and_key_pair_removals(cloud, name))
        return Swept(tuple(pass_.removed), tuple(pass_.left), all_seen=not pass_.silent)
    # While servers hold them, ports and volumes stay; nova has to say that there is none.
    if COMPUTE not in services or _without_servers(pass_, cloud, project, again=again):
        pass_.remove(VOLUME in services, "cinder", lambda: volume_removals(cloud, project))
        pass_.remove(NETWORK in services, "neutron", lambda: network_removals(cloud, project))
    pass_.remove(IMAGE in services, "glance", lambda: image_removals(cloud, project))
    pass_.remove(COMPUTE in services, "nova", lambda: flavor_and_key_pair_removals(cloud, name))
    listed = _listed(cloud, name, services)
    if not listed.left and not pass_.left:
        present = {service: service in services for service in (COMPUTE, NETWORK, VOLUME)}
        pass_.remove(True, "keystone", lambda: [_with_quota(cloud, project, name, present)])
    if not listed.left and not pass_.left:
        return Swept(tuple(pass_.removed), ())
    left = dict.fromkeys((*listed.left, *pass_.left, f"project {name}"))
    return Swept(tuple(pass_.removed), tuple(left), all_seen=not listed.silent)


def _without_servers(pass_: _Pass, cloud: Connection, project: str, *, again: bool) -> bool:
    """Nova lists no server of the project. Those that there are are being deleted."""
    found: list[object] = []

    def removals() -> Iterable[Removal]:
        servers = servers_of(cloud, project)
        found.extend(servers)
        return server_removals(cloud, servers, again=again)

    return pass_.remove(True, "nova", removals) and not found


def _with_quota(cloud: Connection, project: str, name: str, services: Mapping[str, bool]) -> Removal:
    def request() -> None:
        remove_quota(cloud, project, services=services)
        remove_project(cloud, project)

    return Removal(f"project {name}", request)


def _listed(cloud: Connection, name: str, services: Collection[str]) -> _Pass:
    listed = _Pass()
    project = find_project(cloud, name)
    listed.find(COMPUTE in services, "nova", lambda: named_leftovers(cloud, name))
    if project is None:
        return listed
    listed.find(COMPUTE in services, "nova", lambda: compute_leftovers(cloud, project))
    listed.find(VOLUME in services, "cinder", lambda: volume_leftovers(cloud, project))
    listed.find(NETWORK in services, "neutron", lambda: network_leftovers(cloud, project))
    listed.find(IMAGE in services, "glance", lambda: [f"image {each.name}" for each in images_of(cloud, project)])
    return listed


class _Pass:
    """What one look at the services, or one removal, came to."""

    def __init__(self) -> None:
        self.removed: list[str] = []
        self.left: list[str] = []
        self.silent = False

    def find(self, wanted: bool, service: str, look: Callable[[], Sequence[str]]) -> None:
        if wanted:
            self._try(service, lambda: self.left.extend(look()))

    def remove(self, wanted: bool, service: str, removals: Callable[[], Iterable[Removal]]) -> bool:
        """Each was requested, whatever they answered; False when the service does not answer for any."""
        return wanted and self._try(service, lambda: self._request(removals()))

    def _request(self, removals: Iterable[Removal]) -> None:
        for each in removals:
            try:
                each.request()
            except HttpException as error:
                if is_busy(error):
                    raise  # no word of this thing: the next one would be answered the same
                self.left.append(f"{each.what}: {error}")
            else:
                self.removed.append(each.what)

    def _try(self, service: str, act: Callable[[], None]) -> bool:
        try:
            act()
        except (SDKException, ClientException) as error:
            self.left.append(f"whatever {service} has: {error}")
            self.silent = True
            return False
        return True
