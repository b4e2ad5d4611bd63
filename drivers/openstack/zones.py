"""Availability zones: one host aggregate each, with the zone's compute hosts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from openstack.compute.v2.aggregate import Aggregate
from openstack.connection import Connection

from drivers.openstack.computes import servers_on
from levier.domain.errors import Conflict

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class _Move:
    """A host that is in an aggregate of another zone than it shall be."""

    host: str
    old: Aggregate
    zone: str


def find_zones(cloud: Connection) -> dict[str, list[str]]:
    """Zone → its hosts, of the aggregates that make zones; nothing is changed."""
    return {each.name: sorted(each.hosts or []) for each in cloud.compute.aggregates() if _makes_a_zone(each)}


def ensure_zones(cloud: Connection, zones: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Each zone has an aggregate of its name with at least these hosts, which no other zone has; what was changed.

    Safe to repeat. Raises Conflict, and nothing was changed, when a host that goes from one zone to another carries
    servers, which have to stay in their zone, or is in a zone that an aggregate of another name makes; and when an
    aggregate with a zone's name makes another zone, or none.
    """
    aggregates = list(cloud.compute.aggregates())
    _refuse_others(aggregates, zones)
    moves = list(_moves(aggregates, zones))
    _refuse_moves(cloud, moves)
    changed = []
    for move in moves:
        cloud.compute.remove_host_from_aggregate(move.old, move.host)
        changed.append(f"{move.host} out of {move.old.name}")
    present = {each.name: each for each in aggregates}
    for zone, hosts in zones.items():
        aggregate = present.get(zone)
        if aggregate is None:
            aggregate = cloud.compute.create_aggregate(name=zone, availability_zone=zone)
            changed.append(f"zone {zone}")
        for host in hosts:
            if host not in (aggregate.hosts or []):
                cloud.compute.add_host_to_aggregate(aggregate, host)
                changed.append(f"{host} in {zone}")
    return tuple(changed)


def restore_zones(cloud: Connection, before: Mapping[str, Sequence[str]], touched: Mapping[str, Sequence[str]]) -> None:
    """The hosts of `touched` are in those zones that they were in `before`, and zones of it that were not are not.

    Safe to repeat.
    """
    aggregates = list(cloud.compute.aggregates())
    for aggregate in aggregates:
        zone = aggregate.name
        if zone not in touched or not _makes_a_zone(aggregate):
            continue
        for host in sorted(set(aggregate.hosts or []) & set(touched[zone]) - set(before.get(zone, ()))):
            cloud.compute.remove_host_from_aggregate(aggregate, host)
        if zone not in before:
            cloud.compute.delete_aggregate(aggregate)
    # Only then: nova has no host in two zones.
    hosts = {host for each in touched.values() for host in each}
    for aggregate in filter(_makes_a_zone, aggregates):
        for host in sorted(hosts & set(before.get(aggregate.name, ())) - set(aggregate.hosts or [])):
            cloud.compute.add_host_to_aggregate(aggregate, host)


def _makes_a_zone(aggregate: Aggregate) -> bool:
    """Whether it is of the sort that Levier makes: called as the zone is."""
    return bool(aggregate.availability_zone) and aggregate.name == aggregate.availability_zone


def _refuse_others(aggregates: Sequence[Aggregate], zones: Mapping[str, Sequence[str]]) -> None:
    for each in aggregates:
        if each.name in zones and not _makes_a_zone(each):
            makes = f"the zone {each.availability_zone}" if each.availability_zone else "no zone"
            raise Conflict(
                f"the aggregate {each.name}, which Levier did not make, has the name of a zone and makes {makes}",
                hint=f"openstack aggregate set --name NEW-NAME '{each.name}' gives it another name; if it is to be the "
                f"zone: openstack aggregate set --zone {each.name} '{each.name}'. Then resume the operation",
            )


def _moves(aggregates: Sequence[Aggregate], zones: Mapping[str, Sequence[str]]) -> Iterator[_Move]:
    for zone, hosts in zones.items():
        for aggregate in aggregates:
            if aggregate.availability_zone and aggregate.availability_zone != zone:
                yield from (_Move(host, aggregate, zone) for host in hosts if host in (aggregate.hosts or []))


def _refuse_moves(cloud: Connection, moves: Sequence[_Move]) -> None:
    for move in moves:
        if not _makes_a_zone(move.old):
            raise Conflict(
                f"{move.host} is to be in zone {move.zone}, and the aggregate {move.old.name}, which Levier did not "
                f"make, has it in the zone {move.old.availability_zone}",
                hint=f"openstack aggregate remove host '{move.old.name}' {move.host}; then resume the operation",
            )
        if servers := servers_on(cloud, move.host):
            more = f" and {len(servers) - _SHOWN} more" if len(servers) > _SHOWN else ""
            raise Conflict(
                f"{move.host} cannot go from zone {move.old.name} to {move.zone}: nova lets no server change its zone, "
                f"and it carries {', '.join(servers[:_SHOWN])}{more}",
                hint=f"drain {move.host} first: move or delete its servers, then resume the operation; "
                f"or give it zone {move.old.name} back in the site file",
            )
