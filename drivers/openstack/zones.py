"""Availability zones: one host aggregate each, with the zone's compute hosts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from openstack.connection import Connection


def find_zones(cloud: Connection) -> dict[str, list[str]]:
    """Zone → its hosts, of the aggregates that make zones; nothing is changed."""
    return {a.availability_zone: sorted(a.hosts or []) for a in cloud.compute.aggregates() if a.availability_zone}


def ensure_zones(cloud: Connection, zones: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Each zone has an aggregate of its name with at least these hosts; what was changed. Safe to repeat."""
    changed = []
    present = {each.name: each for each in cloud.compute.aggregates()}
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
    """The zones of `touched` have no host, and are not there, that they did not have `before`. Safe to repeat."""
    for aggregate in list(cloud.compute.aggregates()):
        zone = aggregate.name
        if zone not in touched:
            continue
        for host in set(aggregate.hosts or []) & set(touched[zone]) - set(before.get(zone, ())):
            cloud.compute.remove_host_from_aggregate(aggregate, host)
        if zone not in before:
            cloud.compute.delete_aggregate(aggregate)
