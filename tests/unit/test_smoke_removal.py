"""How the smoke test goes from a cloud again: one thing does not keep the others, and waiting goes by progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from openstack.connection import Connection
from openstack.exceptions import ConflictException, HttpException, NotFoundException
from openstack.identity.v3._proxy import Proxy
from set_clock import SetClock

from drivers.openstack.sweeping import COMPUTE, NETWORK, leftovers, sweep
from levier.domain.errors import Unreachable
from levier.domain.ssh import RemoteHost
from levier.services.context import NodeContext
from levier.services.polling import wait_while_less
from levier.services.smoke import SmokeTest

NAME = "levier-smoke-install-1"
SERVICES = frozenset({COMPUTE, NETWORK})


class Things:
    """Things of one kind by name; `refused`: name → the error it answers a deletion with."""

    def __init__(self, *names: str) -> None:
        self.there = {name: self.thing(name) for name in names}
        self.refused: dict[str, Exception] = {}
        self.asked: list[str] = []

    def thing(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(id=name, name=name, device_owner="", project_id="p", tags=[])

    def delete(self, which: Any, **_: Any) -> None:
        name = which if isinstance(which, str) else which.name
        self.asked.append(name)
        if error := self.refused.get(name):
            raise error
        self.gone(name)

    def gone(self, name: str) -> None:
        del self.there[name]

    def list(self, **_: Any) -> list[SimpleNamespace]:
        return list(self.there.values())


class Servers(Things):
    """Servers go `at_a_look` at each look once they were asked to; with 0 they never do."""

    def __init__(self, *names: str, at_a_look: int = 1) -> None:
        super().__init__(*names)
        self.at_a_look = at_a_look

    def thing(self, name: str) -> SimpleNamespace:
        more = {"status": "ACTIVE", "fault": None, "compute_host": "n1", "task_state": None}
        return SimpleNamespace(**vars(super().thing(name)), **more)

    def delete(self, which: Any, **how: Any) -> None:
        assert how == {"force": True}, "nova may keep what is deleted otherwise"
        super().delete(which)

    def gone(self, name: str) -> None:
        self.there[name].task_state = "deleting"

    def list(self, **_: Any) -> list[SimpleNamespace]:
        listed = super().list()
        for each in [each for each in listed if each.task_state][: self.at_a_look]:
            del self.there[each.name]
        return listed


class Keystone(Proxy):
    """Keystone with one project."""

    def __init__(self) -> None:
        self.project: str | None = "p"

    def find_project(self, *_: Any, **__: Any) -> Any:
        return None if self.project is None else SimpleNamespace(id=self.project)

    def delete_project(self, *_: Any, **__: Any) -> None:
        self.project = None


class Cloud:
    """Nova, neutron and keystone as far as the removal asks them."""

    def __init__(self, servers: Servers, ports: Things) -> None:
        self.servers, self.ports, self.networks = servers, ports, Things(NAME)
        self.keystone = Keystone()
        self.outside = {"flavour", "key pair"}
        self.placement = SimpleNamespace(get=self._usages)

    @property
    def identity(self) -> Keystone:
        return self.keystone

    def _usages(self, *_: Any, **__: Any) -> SimpleNamespace:
        usages = {"VCPU": len(self.servers.there)}
        return SimpleNamespace(status_code=200, json=lambda: {"usages": usages})

    def _outside(self, what: str) -> SimpleNamespace | None:
        return SimpleNamespace(name=NAME) if what in self.outside else None

    @property
    def compute(self) -> SimpleNamespace:
        return SimpleNamespace(
            servers=self.servers.list,
            delete_server=self.servers.delete,
            find_flavor=lambda _: self._outside("flavour"),
            delete_flavor=lambda *_, **__: self.outside.discard("flavour"),
            find_keypair=lambda _: self._outside("key pair"),
            delete_keypair=lambda *_, **__: self.outside.discard("key pair"),
            revert_quota_set=lambda _: None,
        )

    @property
    def network(self) -> SimpleNamespace:
        none = Things()
        return SimpleNamespace(
            ports=self.ports.list,
            delete_port=self.ports.delete,
            networks=self.networks.list,
            delete_network=self.networks.delete,
            delete_quota=lambda *_, **__: None,
            **dict.fromkeys(("routers", "subnets", "security_groups", "ips"), none.list),
        )


def swept(cloud: Cloud, **how: Any) -> tuple[list[str], list[str]]:
    found = sweep(cast(Connection, cloud), NAME, SERVICES, **how)
    return list(found.removed), list(found.left)


def refusal(status: int) -> HttpException:
    error: HttpException = ConflictException("in use") if status == 409 else HttpException("no")
    error.status_code = status
    return error


def test_one_thing_that_refuses_keeps_no_other_and_is_told_with_its_word() -> None:
    cloud = Cloud(Servers(), Things("a", "b", "c"))
    cloud.ports.refused["a"] = refusal(409)
    removed, left = swept(cloud)
    assert removed == ["port b", "port c", f"network {NAME}", f"flavour {NAME}", f"key pair {NAME}"]
    assert [left[0], left[-1]] == ["port a", f"project {NAME}"]
    assert left[1].startswith("port a: ")
    assert "in use" in left[1]
    del cloud.ports.refused["a"]
    assert swept(cloud) == (["port a", f"project {NAME}"], [])
    assert swept(cloud) == ([], [])


def test_a_service_that_takes_no_requests_is_not_asked_for_each_thing() -> None:
    cloud = Cloud(Servers(), Things("a", "b", "c"))
    cloud.ports.refused = dict.fromkeys("abc", refusal(503))
    assert any(each.startswith("whatever neutron has: ") for each in swept(cloud)[1])
    assert cloud.ports.asked == ["a"]


def test_ports_stay_until_nova_lists_no_server() -> None:
    cloud = Cloud(Servers("s1", "s2", at_a_look=0), Things("a"))
    for _ in range(3):
        swept(cloud)
    assert cloud.ports.asked == []
    cloud.servers.there.clear()
    assert "port a" in swept(cloud)[0]


def test_ports_stay_while_nova_does_not_say_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = Cloud(Servers("s1"), Things("a"))

    def silent(**_: Any) -> list[SimpleNamespace]:
        raise refusal(503)

    monkeypatch.setattr(cloud.servers, "list", silent)
    found = sweep(cast(Connection, cloud), NAME, SERVICES)
    assert not found.all_seen
    assert found.left[0].startswith("whatever nova has: ")
    assert "port a" in found.left
    assert cloud.ports.asked == []


def test_a_server_that_is_being_deleted_is_asked_again_only_where_that_is_wanted() -> None:
    cloud = Cloud(Servers("s1", at_a_look=0), Things())
    for _ in range(3):
        swept(cloud)
    assert cloud.servers.asked == ["s1"]
    swept(cloud, again=True)
    assert cloud.servers.asked == ["s1", "s1"]


def test_flavour_and_key_pair_go_though_somebody_deleted_the_project() -> None:
    cloud = Cloud(Servers(), Things())
    cloud.keystone.project = None
    wanted = [f"flavour {NAME}", f"key pair {NAME}"]
    assert list(leftovers(cast(Connection, cloud), NAME, SERVICES)) == wanted
    assert swept(cloud) == (wanted, [])
    assert leftovers(cast(Connection, cloud), NAME, SERVICES) == ()


def test_a_server_that_went_by_itself_is_no_refusal() -> None:
    cloud = Cloud(Servers("s1"), Things())
    cloud.servers.refused["s1"] = NotFoundException("gone")
    assert not [each for each in swept(cloud)[1] if each.startswith("server s1: ")]


# --- waiting ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    return SetClock(monkeypatch, "levier.services.polling", "levier.services.smoke")


def host() -> RemoteHost:
    raise Unreachable("not here")


def nothing() -> None:
    """Nobody wants the wait to end."""


def looks(*left: int | None) -> Callable[[], int | None]:
    """What is left, look after look; the last for ever."""
    said = list(left)
    return lambda: said.pop(0) if len(said) > 1 else said[0]


def test_the_limit_counts_from_when_less_was_left(clock: SetClock) -> None:
    waited = wait_while_less(looks(*range(50, -1, -1)), host=host, timeout_s=3.0, check=nothing)
    assert waited.seconds is not None
    assert waited.seconds > 10 * waited.limit_s


@pytest.mark.parametrize("left", [(5,), (5, None), (1, 5, 1, 5, 2), (None,)])
def test_what_does_not_get_less_ends_the_wait(clock: SetClock, left: tuple[int | None, ...]) -> None:
    assert wait_while_less(looks(*left), host=host, timeout_s=30.0, check=nothing).seconds is None
    assert clock.now < 60.0


def test_a_slow_host_has_longer(clock: SetClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("levier.services.polling.slowness", lambda _: 4.0)
    own = cast(Callable[[], RemoteHost], lambda: None)
    late = wait_while_less(lambda: 0 if clock.now > 90.0 else 1, host=own, timeout_s=30.0, check=nothing)
    assert late.seconds is not None
    never = wait_while_less(lambda: 1, host=own, timeout_s=30.0, check=nothing)
    assert (never.seconds, never.limit_s) == (None, 120.0)


def smoke_test(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> SmokeTest:
    @contextmanager
    def connection(_: object, __: object) -> Iterator[Cloud]:
        yield cloud

    monkeypatch.setattr("levier.services.smoke.cloud_connection", connection)
    view = SimpleNamespace(runs=lambda component: component in {"nova-api", "neutron-server"})
    services = SimpleNamespace(login=lambda site: None, view=lambda site: view)
    ctx = SimpleNamespace(operation="install-1", name="n1", site=None, cloud=services, guard=nothing, own_host=host)
    return SmokeTest(cast(NodeContext, ctx))


def test_a_hundred_servers_that_go_one_by_one_all_go(clock: SetClock, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = Cloud(Servers(*(f"s{n}" for n in range(100))), Things("a"))
    found = smoke_test(cloud, monkeypatch).remove(timeout_s=5.0, check=nothing)
    assert found.left == ()
    assert len(found.removed) == 105
    assert len(cloud.servers.asked) == len(cloud.servers.there) + 100


def test_a_server_that_does_not_go_is_told_and_was_asked_again(
    clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = Cloud(Servers("s1", at_a_look=0), Things("a"))
    found = smoke_test(cloud, monkeypatch).remove(timeout_s=150.0, check=nothing)
    assert found.left[0] == "server s1 (ACTIVE)"
    assert "port a" in found.left
    assert len(cloud.servers.asked) == 1 + int(clock.now // 60)
    assert leftovers(cast(Connection, cloud), NAME, SERVICES) == found.left[:-1]
