"""What a cloud's API answers that is not well, over HTTP: each answer is an error of Levier's own."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from drivers.openstack.access import ApplicationCredential, new_credential
from drivers.openstack.catalog import CatalogItem
from drivers.openstack.connection import cloud_connection, service_failed
from levier.domain.errors import AuthFailed, Busy, Conflict, LevierError, NotFound, Rejected
from levier.saga.step import Checkpoint
from levier.services.components import load_components
from levier.services.context import NodeContext, NodeStep
from levier.services.steps import smoke
from levier.services.steps.cloud import catalog
from tests.contract.scripted_keystone import PROJECTS, TOKENS, Keystone, serving


@pytest.fixture
def keystone() -> Iterator[Keystone]:
    with serving() as server:
        yield server


def projects(keystone: Keystone) -> list[str]:
    with cloud_connection(keystone.login, lambda: None) as cloud:
        return [each.name for each in cloud.identity.projects()]  # type: ignore[attr-defined]


def test_a_cloud_that_is_well_answers(keystone: Keystone) -> None:
    assert projects(keystone) == ["admin"]


@pytest.mark.parametrize(
    ("path", "status", "kind"),
    [
        (TOKENS, 500, Rejected),
        (TOKENS, 503, Busy),
        (TOKENS, 502, Busy),
        (TOKENS, 403, Rejected),
        (TOKENS, 401, AuthFailed),
        (PROJECTS, 500, Rejected),
        (PROJECTS, 503, Busy),
        (PROJECTS, 404, NotFound),
        (PROJECTS, 409, Conflict),
        (PROJECTS, 400, Rejected),
    ],
)
def test_a_status_is_an_error_of_levier_s_own(
    keystone: Keystone, path: str, status: int, kind: type[LevierError]
) -> None:
    keystone.answers[path] = status
    with pytest.raises(LevierError) as caught:
        projects(keystone)
    assert type(caught.value) is kind
    assert service_failed(caught.value) == (status >= 500)


def test_a_service_that_is_not_in_the_catalogue_is_told_by_either_library(keystone: Keystone) -> None:
    with (
        pytest.raises(Rejected, match="image"),
        cloud_connection(keystone.login, lambda: None) as cloud,
    ):
        list(cloud.image.images())
    where = {"service_type": "compute", "interface": "public"}
    with pytest.raises(Rejected, match="compute"), cloud_connection(keystone.login, lambda: None) as cloud:
        cloud.session.get("/servers", endpoint_filter=where)


@pytest.mark.parametrize("catalogue", [{}, {"identity": "http://127.0.0.1:9/v3"}], ids=["no entry", "a wrong entry"])
def test_keystone_is_reached_whatever_the_catalogue_says_of_it(keystone: Keystone, catalogue: dict[str, str]) -> None:
    keystone.catalogue = catalogue
    assert projects(keystone) == ["admin"]


def context(keystone: Keystone, public: str = "") -> NodeContext:
    """One host in an operation whose cloud is this one, and offers keystone at `public`."""
    view = SimpleNamespace(runs=lambda component: False)
    urls = {"public": public, "internal": keystone.login.auth_url, "admin": keystone.login.auth_url}
    items = (CatalogItem(type="identity", name="keystone", description="Identity", region="RegionOne", urls=urls),)
    cloud = SimpleNamespace(
        login=lambda site: keystone.login,
        view=lambda site: view,
        catalog=lambda site, component: items,
        ensure_secrets=lambda component: None,
    )
    own = {"guard": lambda: None, "own_host": lambda: None}
    return cast(NodeContext, SimpleNamespace(operation="install-1", name="a1-01", site=None, cloud=cloud, **own))


@pytest.mark.parametrize("step", [smoke.prepare, smoke.server], ids=lambda step: step.name)
@pytest.mark.parametrize("path", [TOKENS, PROJECTS])
def test_the_undo_of_a_smoke_test_tells_what_a_failing_cloud_keeps(
    keystone: Keystone, step: NodeStep, path: str
) -> None:
    assert callable(step.undo)
    keystone.answers[path] = 500
    (left,) = step.undo(context(keystone), Checkpoint(before={}, outputs=None, attempts=1))["left"]
    assert "500" in left
    keystone.answers[path] = 400
    with pytest.raises(Rejected):
        step.undo(context(keystone), Checkpoint(before={}, outputs=None, attempts=1))


HTTP, HTTPS = "http://10.77.0.11:5000/v3", "https://10.77.0.11:13000/v3"
ENTRIES = catalog(load_components()["keystone"])


def test_keystone_s_own_entries_are_made_through_a_keystone_that_has_none_and_removed_again(keystone: Keystone) -> None:
    keystone.catalogue = {}
    ctx = context(keystone, HTTP)
    before = ENTRIES.before(ctx)
    assert ENTRIES.do(ctx)["changed"][0] == "service keystone"
    assert keystone.urls == {"public": HTTP, "internal": keystone.login.auth_url, "admin": keystone.login.auth_url}
    assert ENTRIES.do(ctx) == {"changed": []}
    assert callable(ENTRIES.undo)
    ENTRIES.undo(ctx, Checkpoint(before=before, outputs=None, attempts=1))
    assert not any(keystone.stored.values())


def test_keystone_s_public_endpoint_goes_back_with_an_installation_that_moved_it(keystone: Keystone) -> None:
    ENTRIES.do(context(keystone, HTTP))
    ctx = context(keystone, HTTPS)
    before = ENTRIES.before(ctx)
    assert ENTRIES.do(ctx) == {"changed": ["public endpoint of keystone"]}
    assert keystone.urls["public"] == HTTPS
    assert callable(ENTRIES.undo)
    for _ in range(2):
        ENTRIES.undo(ctx, Checkpoint(before=before, outputs=None, attempts=1))
        assert keystone.urls["public"] == HTTP


def credential_of(keystone: Keystone) -> ApplicationCredential:
    with cloud_connection(keystone.login, lambda: None) as cloud:
        return new_credential(cloud, "operators", description="")


def test_a_role_that_keystone_does_not_find_yet_is_asked_for_again(keystone: Keystone) -> None:
    role = "Invalid application credential: Could not find role assignment with role: 2a9f, user or group: u"
    keystone.refusals = [role, "Invalid application credential: its name is too long"]
    with pytest.raises(Busy, match="keystone does not find a role of its own token yet"):
        credential_of(keystone)
    with pytest.raises(Rejected, match="its name is too long") as refused:
        credential_of(keystone)
    assert not isinstance(refused.value, Busy)
    assert credential_of(keystone).secret == "s"
