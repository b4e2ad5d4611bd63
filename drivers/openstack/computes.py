"""Compute hosts as nova knows them, and what they carry."""

from __future__ import annotations

from collections.abc import Sequence

from openstack.connection import Connection


def missing_computes(cloud: Connection, hosts: Sequence[str]) -> dict[str, str]:
    """Host → why it does not count, of the `hosts` whose compute service nova does not see up. Safe to repeat."""
    states = {each.host: each.state for each in cloud.compute.services(binary="nova-compute")}
    return {
        host: "nova has never heard of it" if host not in states else f"nova sees it {states[host]}"
        for host in hosts
        if states.get(host) != "up"
    }


def servers_on(cloud: Connection, host: str) -> tuple[str, ...]:
    """Names of all servers on the host, of whatever project. Safe to repeat."""
    return tuple(sorted(each.name for each in cloud.compute.servers(details=True, all_projects=True, host=host)))


def volumes_on(cloud: Connection, host: str) -> tuple[str, ...]:
    """Names or identities of all volumes that the host stores. Safe to repeat.

    Source: cinder's API reference, `os-vol-host-attr:host`, HOST@BACKEND#POOL.
    """
    volumes = cloud.block_storage.volumes(details=True, all_projects=True)
    return tuple(sorted(each.name or each.id for each in volumes if (each.host or "").partition("@")[0] == host))
