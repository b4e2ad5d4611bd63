"""Hosts go from one availability zone to another as nova lets them, and back."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest
from openstack.connection import Connection
from openstack.exceptions import ConflictException

from drivers.openstack.zones import ensure_zones, find_zones, restore_zones
from levier.domain.errors import Conflict


class Aggregate(SimpleNamespace):
    name: str
    availability_zone: str | None
    hosts: list[str]


class Nova:
    """Aggregates as nova keeps them: a host is in one zone at most, and with servers on it stays there."""

    def __init__(
        self, *aggregates: tuple[str, str | None, list[str]], servers: dict[str, list[str]] | None = None
    ) -> None:
        self.present = [Aggregate(name=n, availability_zone=z, hosts=list(h)) for n, z, h in aggregates]
        self.servers_by_host = servers or {}
        self.calls: list[str] = []

    def aggregates(self) -> Iterator[Aggregate]:
        """What was answered does not change with what is done next."""
        yield from [Aggregate(**{**vars(each), "hosts": list(each.hosts)}) for each in self.present]

    def servers(self, *, details: bool, all_projects: bool, host: str) -> Iterator[SimpleNamespace]:
        assert details
        assert all_projects
        yield from (SimpleNamespace(name=name) for name in self.servers_by_host.get(host, []))

    def create_aggregate(self, *, name: str, availability_zone: str) -> Aggregate:
        self.present.append(Aggregate(name=name, availability_zone=availability_zone, hosts=[]))
        return Aggregate(name=name, availability_zone=availability_zone, hosts=[])

    def add_host_to_aggregate(self, aggregate: Aggregate, host: str) -> None:
        self.calls.append(f"{host} → {aggregate.name}")
        others = [each for each in self.present if each.availability_zone and host in each.hosts]
        if any(each.availability_zone != aggregate.availability_zone for each in others):
            raise ConflictException(f"Host {host} already in availability zone {others[0].availability_zone}")
        self._own(aggregate).hosts.append(host)

    def remove_host_from_aggregate(self, aggregate: Aggregate, host: str) -> None:
        self.calls.append(f"{host} ← {aggregate.name}")
        if self.servers_by_host.get(host):
            raise ConflictException("One or more hosts contain instances in this zone")
        self._own(aggregate).hosts.remove(host)

    def delete_aggregate(self, aggregate: Aggregate) -> None:
        assert not self._own(aggregate).hosts
        self.present.remove(self._own(aggregate))

    def _own(self, aggregate: Aggregate) -> Aggregate:
        return next(each for each in self.present if each.name == aggregate.name)

    @property
    def cloud(self) -> Connection:
        return cast(Connection, SimpleNamespace(compute=self))


def zones_of(nova: Nova) -> dict[str, list[str]]:
    return find_zones(nova.cloud)


def test_a_host_of_another_zone_leaves_that_one_first_and_the_second_time_nothing_is_done() -> None:
    nova = Nova(("a", "a", ["n1", "n2"]), ("b", "b", ["n3"]))
    wanted = {"a": ["n1"], "b": ["n2", "n3"]}
    assert ensure_zones(nova.cloud, wanted) == ("n2 out of a", "n2 in b")
    assert zones_of(nova) == {"a": ["n1"], "b": ["n2", "n3"]}
    assert ensure_zones(nova.cloud, wanted) == ()


def test_two_hosts_change_places() -> None:
    nova = Nova(("a", "a", ["n1"]), ("b", "b", ["n2"]))
    ensure_zones(nova.cloud, {"a": ["n2"], "b": ["n1"]})
    assert zones_of(nova) == {"a": ["n2"], "b": ["n1"]}


def test_the_undo_puts_it_back_also_into_a_zone_that_the_site_has_no_more() -> None:
    nova = Nova(("a", "a", ["n1"]))
    before, wanted = zones_of(nova), {"b": ["n1", "n2"]}
    ensure_zones(nova.cloud, wanted)
    assert zones_of(nova) == {"a": [], "b": ["n1", "n2"]}
    restore_zones(nova.cloud, before, wanted)
    assert zones_of(nova) == before
    restore_zones(nova.cloud, before, wanted)
    assert zones_of(nova) == before


def test_the_undo_leaves_alone_hosts_that_the_step_does_not_touch() -> None:
    nova = Nova(("a", "a", ["n1"]))
    before = {"a": ["n1", "elsewhere"]}
    restore_zones(nova.cloud, before, {"a": ["n1"]})
    assert zones_of(nova) == {"a": ["n1"]}


def test_a_host_with_servers_stays_and_nothing_was_changed() -> None:
    nova = Nova(("a", "a", ["n1", "n2"]), ("b", "b", []), servers={"n2": ["web", "db"]})
    with pytest.raises(Conflict, match=r"n2 cannot go from zone a to b: .* it carries db, web") as caught:
        ensure_zones(nova.cloud, {"b": ["n1", "n2"]})
    assert "drain n2 first" in caught.value.hint
    assert nova.calls == []


def test_servers_do_not_matter_where_no_zone_changes() -> None:
    nova = Nova(("a", "a", ["n1"]), servers={"n1": ["web"]})
    assert ensure_zones(nova.cloud, {"a": ["n1", "n2"]}) == ("n2 in a",)


def test_an_aggregate_of_somebody_elses_is_left_alone() -> None:
    nova = Nova(("fast disks", None, ["n1"]), ("rack 7", "c", ["n2"]))
    assert ensure_zones(nova.cloud, {"a": ["n1"]}) == ("zone a", "n1 in a")
    with pytest.raises(Conflict, match="the aggregate rack 7, which Levier did not make") as caught:
        ensure_zones(nova.cloud, {"a": ["n1", "n2"]})
    assert "openstack aggregate remove host 'rack 7' n2" in caught.value.hint
    assert zones_of(nova) == {"a": ["n1"]}


@pytest.mark.parametrize(("zone", "said"), [(None, "makes no zone"), ("prod", "makes the zone prod")])
def test_an_aggregate_of_a_users_that_has_a_zones_name_is_left_alone(zone: str | None, said: str) -> None:
    nova = Nova(("a", zone, ["n1"]), ("b", "b", []))
    cloud = cast(Connection, SimpleNamespace(compute=nova))
    with pytest.raises(Conflict, match=f"the aggregate a, .* {said}") as caught:
        ensure_zones(cloud, {"a": ["n1", "n2"], "b": ["n3"]})
    assert "openstack aggregate set --name" in caught.value.hint
    restore_zones(cloud, find_zones(cloud), {"a": ["n1", "n2"], "b": ["n3"]})
    assert nova.calls == []
    assert [(each.name, each.availability_zone, each.hosts) for each in nova.present] == [
        ("a", zone, ["n1"]),
        ("b", "b", []),
    ]
