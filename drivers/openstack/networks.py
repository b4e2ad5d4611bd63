"""A network with a subnet, a router, a security group and ports with fixed addresses, in a project."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from openstack import exceptions
from openstack.connection import Connection

from drivers.openstack.removal import Removal

_DHCP = "network:dhcp"
_OF_ROUTERS = "network:router_interface"
_RULES: tuple[dict[str, Any], ...] = (
    {"protocol": "icmp"},
    {"protocol": "tcp", "port_range_min": 80, "port_range_max": 80},
)
"""What the servers answer: ping and HTTP."""


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """A network that is nobody else's."""

    name: str
    cidr: str
    gateway: str
    pool: tuple[str, str]
    """First and last address that neutron takes from by itself."""
    router: bool


@dataclass(frozen=True, slots=True)
class MadeNetwork:
    """Ids of what there is."""

    network: str
    subnet: str
    security_group: str
    router: str | None


def ensure_network(cloud: Connection, project: str, spec: NetworkSpec) -> MadeNetwork:
    """Network, subnet, security group and, where wanted, a router with an interface exist. Safe to repeat."""
    network = _ensure(cloud, "network", project, spec.name)
    wanted = {
        "network_id": network.id,
        "ip_version": 4,
        "cidr": spec.cidr,
        "allocation_pools": [{"start": spec.pool[0], "end": spec.pool[1]}],
        "gateway_ip": spec.gateway if spec.router else None,
    }
    subnet = _ensure(cloud, "subnet", project, spec.name, **wanted)
    group = _ensure(cloud, "security_group", project, spec.name)
    _ensure_rules(cloud, group)
    router = None
    if spec.router:
        router = _ensure(cloud, "router", project, spec.name)
        if not _interfaces(cloud, router.id):
            cloud.network.add_interface_to_router(router, subnet=subnet.id)
    return MadeNetwork(network.id, subnet.id, group.id, router.id if router else None)


def ensure_ports(cloud: Connection, project: str, made: MadeNetwork, addresses: Mapping[str, str], *, tag: str) -> None:
    """For each name there is a port with the address. Safe to repeat."""
    present = {port.name: port for port in cloud.network.ports(project_id=project, network_id=made.network)}
    for name, address in addresses.items():
        port = present.get(name)
        if port is None:
            port = cloud.network.create_port(
                name=name,
                project_id=project,
                network_id=made.network,
                fixed_ips=[{"subnet_id": made.subnet, "ip_address": address}],
                security_groups=[made.security_group],
            )
        if tag not in port.tags:
            cloud.network.set_tags(port, [tag])


def find_port(cloud: Connection, project: str, name: str) -> str | None:
    """The port's id; None when there is none."""
    return next((str(port.id) for port in cloud.network.ports(project_id=project, name=name)), None)


def network_leftovers(cloud: Connection, project: str) -> tuple[str, ...]:
    """All that neutron has of the project, in words."""
    neutron = cloud.network
    found: list[tuple[str, Sequence[Any]]] = [
        ("port", list(neutron.ports(project_id=project))),
        ("router", list(neutron.routers(project_id=project))),
        ("subnet", list(neutron.subnets(project_id=project))),
        ("network", list(neutron.networks(project_id=project))),
        ("security group", _groups(cloud, project)),
        ("floating address", list(neutron.ips(project_id=project))),
    ]
    return tuple(f"{kind} {each.name or each.id}" for kind, present in found for each in present)


def network_removals(cloud: Connection, project: str) -> Iterator[Removal]:
    """How all that neutron has of the project is removed, in this order. Safe to repeat."""
    neutron = cloud.network
    for router in neutron.routers(project_id=project):
        for port in _interfaces(cloud, router.id):
            leave = partial(neutron.remove_interface_from_router, router, port=port.id)
            yield Removal(f"interface of router {router.name}", leave)
        yield Removal(f"router {router.name}", partial(neutron.delete_router, router, ignore_missing=True))
    # Those of DHCP go with the network.
    for port in neutron.ports(project_id=project):
        if port.device_owner != _DHCP:
            yield Removal(f"port {port.name}", partial(neutron.delete_port, port, ignore_missing=True))
    for network in neutron.networks(project_id=project):
        yield Removal(f"network {network.name}", partial(neutron.delete_network, network, ignore_missing=True))
    for group in _groups(cloud, project):
        delete = partial(neutron.delete_security_group, group, ignore_missing=True)
        yield Removal(f"security group {group.name}", delete)


def _groups(cloud: Connection, project: str) -> list[Any]:
    """The project's security groups, the one named default among them, which nobody asked for.

    Asked for the groups of one project, neutron first makes that one: so it is asked for those of all.
    """
    return [each for each in cloud.network.security_groups() if each.project_id == project]


def _interfaces(cloud: Connection, router: str) -> Iterator[Any] | list[Any]:
    return [port for port in cloud.network.ports(device_id=router) if port.device_owner.startswith(_OF_ROUTERS)]


def _ensure(cloud: Connection, kind: str, project: str, name: str, **wanted: Any) -> Any:
    """The thing of this kind and name in the project, tagged with its name."""
    plural = f"{kind}s"
    found = next(iter(getattr(cloud.network, plural)(project_id=project, name=name)), None)
    if found is None:
        found = getattr(cloud.network, f"create_{kind}")(name=name, project_id=project, **wanted)
    if name not in found.tags:
        cloud.network.set_tags(found, [name])
    return found


def _ensure_rules(cloud: Connection, group: Any) -> None:
    for rule in _RULES:
        try:
            cloud.network.create_security_group_rule(
                security_group_id=group.id, direction="ingress", ether_type="IPv4", **rule
            )
        except exceptions.ConflictException:
            continue  # it is there
