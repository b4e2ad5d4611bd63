"""The steps of the smoke test against a cloud that is told what to say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from set_clock import SetClock
from site_samples import smoke_site

from levier.domain.errors import Rejected
from levier.domain.smoke import server_name, smoke_name
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

    def test_on(cloud: Any, host: str = "n1", hosts: dict[str, str] = TWO, **outputs: Any) -> SmokeTest:
        @contextmanager
        def connection(_: object, __: object) -> Iterator[Any]:
            yield cloud

        monkeypatch.setattr("levier.services.smoke.cloud_connection", connection)
        monkeypatch.setattr("levier.services.smoke.replace", lambda login, project: login)
        monkeypatch.setattr("levier.services.smoke.complaints", lambda *_: "its journal")
        monkeypatch.setattr("levier.services.polling.slowness", lambda _: 1.0)
        SetClock(monkeypatch, "levier.services.polling", "levier.services.steps.smoke")
        site = smoke_site(hosts)
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
