"""The steps of the smoke test against a cloud that is told what to say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from site_samples import smoke_site

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
        monkeypatch.setattr("levier.services.polling.INTERVAL_S", 0.0)
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
