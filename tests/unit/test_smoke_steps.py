"""The steps of the smoke test against a cloud that is told what to say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from set_clock import SetClock
from site_samples import smoke_site

from levier.cli.install_report import install_report
from levier.domain.errors import Rejected
from levier.domain.operation import JsonMap
from levier.domain.smoke import server_addresses, server_name, smoke_name
from levier.services.components import load_components
from levier.services.context import NodeContext
from levier.services.smoke import SmokeTest
from levier.services.steps import smoke as steps

OPERATION = "install-0123456789"
COMPONENTS = load_components()
TWO = {"c1": "controller, network", "n1": "compute", "n2": "compute"}


class Cloud:
    """Nova, glance, neutron and cinder as far as the steps ask them."""

    current_project_id = "p"

    def __init__(self) -> None:
        self.created: list[dict[str, Any]] = []
        made = SimpleNamespace(id="id", name=smoke_name(OPERATION))
        self.image = SimpleNamespace(images=lambda owner: [made])
        self.network = SimpleNamespace(ports=lambda project_id, name: [made])
        self.compute = SimpleNamespace(
            servers=lambda **_: [], find_flavor=lambda _: made, create_server=self._create_server
        )

    def _create_server(self, **wanted: Any) -> SimpleNamespace:
        self.created.append(wanted)
        return SimpleNamespace(id="s1")


def nothing() -> None:
    """Nobody wants the step to end."""


@pytest.fixture
def smoke_test(monkeypatch: pytest.MonkeyPatch) -> Callable[..., SmokeTest]:
    """The test on one host of a site, over a cloud."""

    def test_on(
        cloud: Any, host: str = "n1", hosts: dict[str, str] = TWO, settings: str = "", **outputs: Any
    ) -> SmokeTest:
        @contextmanager
        def connection(_: object, __: object) -> Iterator[Any]:
            yield cloud

        monkeypatch.setattr("levier.services.smoke.cloud_connection", connection)
        monkeypatch.setattr("levier.services.smoke.replace", lambda login, project: login)
        monkeypatch.setattr("levier.services.smoke.complaints", lambda *_: "its journal")
        monkeypatch.setattr("levier.services.polling.slowness", lambda _: 1.0)
        SetClock(monkeypatch, "levier.services.polling", "levier.services.steps.smoke")
        site = smoke_site(hosts, settings)
        ctx = SimpleNamespace(
            **{"name": host, "operation": OPERATION, "site": site, "own_host": lambda: None},
            **{"check": nothing, "guard": nothing, "outputs_if_any": lambda step: outputs.get(step, {})},
            cloud=SimpleNamespace(components=COMPONENTS, login=lambda _: None),
        )
        return SmokeTest(cast(NodeContext, ctx))

    return test_on


def test_a_server_s_tag_is_one_that_nova_takes_whatever_its_host_is_called(
    smoke_test: Callable[..., SmokeTest],
) -> None:
    cloud, host = Cloud(), "n" * 63
    test = smoke_test(cloud, host, {"c1": "controller, network", host: "compute", "n2": "compute"})
    assert steps._ensure_server(test, cast(Any, cloud), "p") == "s1"
    (wanted,) = cloud.created
    assert wanted["name"] == server_name(OPERATION, host)
    assert wanted["tags"] == [smoke_name(OPERATION)]
    assert len(wanted["tags"][0]) <= 60


# --- the volume ------------------------------------------------------------------------------------------------------


class Cinder:
    """One volume that comes to the next of its states at each look, and what the server says of it.

    `then`: what it goes through once it is attached, detached, deleted.
    """

    def __init__(self, *states: str, **then: list[str]) -> None:
        self.states = list(states)
        self.then = {
            "attach": ["reserved", "attaching", "in-use"],
            "detach": ["detaching", "available"],
            "delete": ["deleting", ""],
        } | then
        self.done: list[str] = []

    def state(self) -> str:
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    def act(self, what: str) -> None:
        self.done.append(what)
        self.states = list(self.then[what])

    def thing(self, state: str) -> SimpleNamespace:
        name = server_name(OPERATION, "n1")
        attached = [{"server_id": "s1"}] if state in ("in-use", "detaching") else []
        return SimpleNamespace(id="v", name=name, status=state, attachments=attached)

    def listed(self, **_: Any) -> list[SimpleNamespace]:
        state = self.state()
        return [self.thing(state)] if state else []

    def create(self, **_: Any) -> SimpleNamespace:
        self.done.append("create")
        self.states = ["creating", "available"]
        return self.thing("creating")

    def console(self, *_: Any) -> str:
        said = "LEVIER-SMOKE volume=vdb size=1073741824 io=ok\n"
        return said if self.states[0] == "in-use" else f"{said}LEVIER-SMOKE volume=vdb gone\n"

    def __getattr__(self, name: str) -> Any:
        if name == "compute":
            return SimpleNamespace(
                create_volume_attachment=lambda *_: self.act("attach"),
                delete_volume_attachment=lambda *_, **__: self.act("detach"),
            )
        return SimpleNamespace(
            volumes=self.listed,
            get_volume=lambda _: self.thing(self.state()),
            create_volume=self.create,
            delete_volume=lambda *_, **__: self.act("delete"),
        )

    current_project_id = "p"


ALL = ["create", "attach", "detach", "delete"]


@pytest.mark.parametrize(
    ("states", "wanted"),
    [
        ([""], ALL),
        (["available"], ALL[1:]),
        (["in-use"], ALL[2:]),
        (["reserved", "reserved", "attaching", "attaching", "in-use"], ALL[2:]),
        (["attaching", "attaching", "attaching", "available"], ALL[1:]),
        (["detaching", "detaching", "detaching", "available"], ALL[1:]),
        (["deleting", "deleting", ""], ALL),
    ],
    ids=lambda each: "-".join(each) or "none",
)
def test_the_volume_of_an_attempt_that_was_left_off_is_gone_on_with(
    smoke_test: Callable[..., SmokeTest], monkeypatch: pytest.MonkeyPatch, states: list[str], wanted: list[str]
) -> None:
    cinder = Cinder(*states)
    monkeypatch.setattr("levier.services.steps.smoke.consoles.console_text", cinder.console)
    assert steps._volume(smoke_test(cinder), cast(Any, cinder), "s1").startswith("1 GiB written")
    assert cinder.done == wanted


def test_a_volume_that_nova_gives_back_is_told(
    smoke_test: Callable[..., SmokeTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    cinder = Cinder("available", attach=["reserved", "available"])
    monkeypatch.setattr("levier.services.steps.smoke.consoles.console_text", cinder.console)
    with pytest.raises(Rejected, match="was not attached: nova gave it back; on n1: its journal"):
        steps._volume(smoke_test(cinder), cast(Any, cinder), "s1")


# --- where nova places nothing ---------------------------------------------------------------------------------------


class Nova(Cloud):
    """Nova and placement of one host: what its compute service is, and what becomes of a server there."""

    def __init__(
        self, *services: tuple[str, str, str], fault: str = "", room: dict[str, tuple[int, int]] | None = None
    ) -> None:
        super().__init__()
        self.said = list(services)
        self.fault = fault
        self.room = room or {}
        self.compute.services = self._services
        self.compute.get_server = self._server
        self.compute.hypervisors = self._hypervisors
        self.placement = SimpleNamespace(get=self._provider)

    def _services(self, *, binary: str, host: str) -> list[SimpleNamespace]:
        now = self.said.pop(0) if len(self.said) > 1 else self.said[0]
        return [SimpleNamespace(**dict(zip(("state", "status", "disabled_reason"), now, strict=True)))]

    def _server(self, identity: str) -> SimpleNamespace:
        more = {"status": "ERROR" if self.fault else "ACTIVE", "fault": {"message": self.fault}, "task_state": None}
        return SimpleNamespace(id=identity, name="s", compute_host="" if self.fault else "n1", **more)

    def _hypervisors(self, **_: Any) -> list[SimpleNamespace]:
        hosts = {"h0": "n10", "h1": "n1"}
        return [SimpleNamespace(id=key, service_details={"host": host}) for key, host in hosts.items()]

    def _provider(self, path: str) -> SimpleNamespace:
        inventory = {k: {"total": t, "reserved": 0, "allocation_ratio": 1.0} for k, (t, _) in self.room.items()}
        told = {"inventories": inventory, "usages": {k: used for k, (_, used) in self.room.items()}}
        provider, what = path.split("/")[-2:]
        assert provider == "h1"
        return SimpleNamespace(status_code=200, json=lambda: {what: told[what]})


UP, DOWN = ("up", "enabled", ""), ("down", "enabled", "")
DISABLED = ("up", "disabled", "its disk is exchanged")
LOST_LIBVIRT = ("up", "disabled", "AUTO: Connection to libvirt lost: 1")
ENABLE = "openstack compute service set --enable n1 nova-compute"
FULL = {"VCPU": (4, 4), "MEMORY_MB": (2048, 1024), "DISK_GB": (20, 4)}
NO_HOST = "No valid host was found. There are not enough hosts available."
FAKE = "settings: {nova-compute: {hypervisor: fake}}"


def test_a_host_that_somebody_disabled_is_not_waited_for_and_does_not_fall(
    smoke_test: Callable[..., SmokeTest],
) -> None:
    cloud = Nova(DISABLED)
    told = steps.server.do(smoke_test(cloud).ctx)
    why = f"its compute service is up and disabled (its disk is exchanged): {ENABLE}"
    assert told == {"not_checked": {"server": why}}
    assert cloud.created == []
    ctx = smoke_test(cloud, **{"smoke-server": told}).ctx
    assert steps.check.do(ctx) == told
    first, *_ = install_report([{"step": "smoke-check", "target": "n1", "result": told, "changed": None}])
    assert first == f"n1: no server ran on it; server not checked: {why}"


def test_a_new_host_that_cannot_be_tried_falls_at_once(smoke_test: Callable[..., SmokeTest]) -> None:
    ctx = smoke_test(Nova(DISABLED), **{"compute-registered": {"changed": ["n1"]}}).ctx
    with pytest.raises(Rejected, match="the new host n1 takes no servers: its compute service is up and dis") as caught:
        steps.server.do(ctx)
    assert ENABLE in caught.value.hint


@pytest.mark.parametrize("service", [DOWN, LOST_LIBVIRT])
def test_a_service_that_is_not_well_is_waited_for_and_told(
    smoke_test: Callable[..., SmokeTest], service: tuple[str, str, str]
) -> None:
    test = smoke_test(Nova(service, service, UP), settings=FAKE)
    assert steps.server.do(test.ctx)["server"] == "s1"
    with pytest.raises(Rejected, match=f"n1 takes no servers: its compute service is {service[0]} and {service[1]}"):
        steps.server.do(smoke_test(Nova(service)).ctx)


def test_a_full_host_does_not_fall_and_its_room_is_told(smoke_test: Callable[..., SmokeTest]) -> None:
    told = steps.server.do(smoke_test(Nova(UP, fault=NO_HOST, room=FULL)).ctx)
    assert told["not_checked"] == {
        "server": "the host is full: it has free VCPU 0, MEMORY_MB 1024, DISK_GB 16; "
        "the test needs VCPU 1, MEMORY_MB 128, DISK_GB 1"
    }


@pytest.mark.parametrize(
    ("fault", "room", "told"),
    [
        (NO_HOST, FULL | {"VCPU": (4, 3)}, r"is in ERROR \(it has free VCPU 1, MEMORY_MB 1024, DISK_GB 16; the test"),
        (NO_HOST, FULL | {"VCPU": (0, 0)}, r"is in ERROR \(it has free VCPU 0, "),
        (NO_HOST, {}, r"is in ERROR \(it has free VCPU unknown, MEMORY_MB unknown, DISK_GB unknown; "),
        ("Build of instance aborted", FULL, "is in ERROR: Build of instance aborted; on n1: its journal"),
    ],
    ids=["there is room", "no room was meant", "nobody tells", "another fault"],
)
def test_a_server_in_error_on_a_host_that_is_not_full_is_an_error(
    smoke_test: Callable[..., SmokeTest], fault: str, room: dict[str, tuple[int, int]], told: str
) -> None:
    with pytest.raises(Rejected, match=told):
        steps.server.do(smoke_test(Nova(UP, fault=fault, room=room)).ctx)


# --- the others' servers ---------------------------------------------------------------------------------------------

HOSTS = {"c1": "controller, network"} | {f"n{n}": "compute" for n in range(1, 6)}
ADDRESSES = server_addresses([f"n{n}" for n in range(1, 6)])


class Talking(Cloud):
    """Servers on all hosts, of which n1's is asked: those it reaches, and those that run, look after look."""

    def __init__(self, reached: list[str], *alive: list[str]) -> None:
        super().__init__()
        self.reached, self.alive = reached, list(alive)
        self.compute.servers = self._servers

    def _servers(self, *, details: bool = True, **_: Any) -> list[SimpleNamespace]:
        if details:
            more = {"status": "ACTIVE", "fault": None, "task_state": None, "compute_host": "n1"}
            return [SimpleNamespace(id="s1", name=server_name(OPERATION, "n1"), **more)]
        now = self.alive.pop(0) if len(self.alive) > 1 else self.alive[0]
        return [SimpleNamespace(name=server_name(OPERATION, each)) for each in now]

    def console(self, *_: Any) -> str:
        own = f"started\nLEVIER-SMOKE address={ADDRESSES['n1']}/16 mtu=1446\nLEVIER-SMOKE metadata=ok\n"
        others = {each: "ok" if each in self.reached else "no" for each in ("n2", "n3", "n4", "n5")}
        said = [f"LEVIER-SMOKE peer={ADDRESSES[each]} ping={word} http={word}" for each, word in others.items()]
        return "\n".join([f"LEVIER-SMOKE {own}LEVIER-SMOKE gateway=198.18.0.1 ping=ok", *said])


@pytest.fixture
def checked(smoke_test: Callable[..., SmokeTest], monkeypatch: pytest.MonkeyPatch) -> Callable[[Talking], JsonMap]:
    """The result of n1's check."""

    def check(cloud: Talking) -> JsonMap:
        monkeypatch.setattr("levier.services.steps.smoke.consoles.console_text", cloud.console)
        monkeypatch.setattr("levier.services.steps.smoke._screen", lambda *_: "720x400 QEMU")
        return steps.check.do(smoke_test(cloud, hosts=HOSTS).ctx)

    return check


EVERYBODY = list(ADDRESSES)


def test_others_that_fall_while_they_are_waited_for_are_not_missed(checked: Callable[[Talking], JsonMap]) -> None:
    result = checked(Talking(["n2", "n3"], EVERYBODY, ["n1", "n2", "n3", "n4"], ["n1", "n2", "n3"]))
    assert set(result["peers"]) == {ADDRESSES["n2"], ADDRESSES["n3"]}
    assert result["without_server"] == ["n4", "n5"]
    assert "unreached" not in result
    assert "peers" not in result["not_checked"]
    assert "; n4, n5 had no server to be reached; " in reported(result)


def test_who_reaches_most_others_does_not_fall_with_the_one_that_it_does_not_reach(
    checked: Callable[[Talking], JsonMap],
) -> None:
    result = checked(Talking(["n2", "n3", "n4"], EVERYBODY))
    assert result["unreached"] == {"n5": "ping=no http=no"}
    assert len(result["peers"]) == 3
    assert "; did not reach that on n5 (ping=no http=no); " in reported(result)


def test_who_reaches_hardly_anybody_falls(checked: Callable[[Talking], JsonMap]) -> None:
    with pytest.raises(
        Rejected, match=r"the server on n3 \(198.18.0.12\): ping=no http=no; the server on n4 "
    ) as caught:
        checked(Talking(["n2"], EVERYBODY))
    assert "n2" not in str(caught.value)


def test_where_no_other_server_is_left_it_is_said_that_none_was_tried(checked: Callable[[Talking], JsonMap]) -> None:
    result = checked(Talking([], ["n1"]))
    assert result["not_checked"]["peers"] == "no server runs on n2, n3, n4, n5"
    assert reported(result).endswith("; peers not checked: no server runs on n2, n3, n4, n5")


def test_where_everybody_is_reached_nobody_asks_who_is_there(checked: Callable[[Talking], JsonMap]) -> None:
    result = checked(Talking(["n2", "n3", "n4", "n5"]))
    assert not {"unreached", "without_server"} & set(result)


def reported(result: JsonMap) -> str:
    first, *_ = install_report([{"step": "smoke-check", "target": "n1", "result": result, "changed": None}])
    return first
