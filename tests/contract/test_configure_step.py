"""The step that configures a component, on a running host: what it wrote is kept with the revision, and only that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from drivers.ssh import open_host
from levier.bootstrap import wire
from levier.domain import install_plan
from levier.domain.errors import Rejected
from levier.domain.operation import Fence, JsonMap
from levier.domain.ssh import RemoteHost, SshTarget
from levier.saga.engine import Saga
from levier.services.context import NodeContext, NodeDrivers, OperationTerms
from levier.services.registry import Services
from levier.services.settings import Settings
from levier.services.steps.component import component_steps
from levier.store.base import open_engine
from levier.store.step_log import SqlStepLog
from tests.integration.saga_faults import VERSION, begun, now
from tests.rig.container import Container
from tests.unit.components.sites import TWO_ZONES

pytestmark = pytest.mark.root

HOST, COMPONENT, FILE = "a1-01", "memcached", "/etc/memcached.conf"


@dataclass(frozen=True)
class FreeGrip:
    """A hold on an operation that nobody disputes."""

    fence: Fence

    def guard(self) -> None: ...

    def check(self) -> None: ...

    def hold(self) -> int:
        return self.fence.generation

    def outputs(self, step: str) -> JsonMap:
        return {}


class OneHost(NodeDrivers):
    """Whatever address is asked for, it is this host."""

    given: RemoteHost

    def host(self, target: SshTarget) -> RemoteHost:
        return self.given


@pytest.fixture
def services(tmp_path: Path) -> Services:
    """An installation with a site of revision 1."""
    settings = Settings(
        state_dir=tmp_path / "state",
        database_url=f"sqlite:///{tmp_path / 'levier.db'}",
        api_url="http://127.0.0.1:1",
        prefect_api_url="http://127.0.0.1:1/api",
        boot_port=8480,
        image_cache=tmp_path / "images",
        build_ramdisk=False,
    )
    wired = wire(settings)
    wired.sites.apply(TWO_ZONES, "site.yaml", who="test")
    return wired


@pytest.fixture
def context(services: Services, debian_12: Container) -> Iterator[NodeContext]:
    """The host in an installation; the file of the component is gone afterwards."""
    provisioning = services.operations._provisioning
    saga = Saga(SqlStepLog(open_engine(services.settings.database_url)), now, VERSION)
    fence = begun(saga, HOST, kind="install")
    number, site = services.sites.current()
    provisioning.ensure_host_key(HOST, operation=fence.operation)
    drivers = OneHost(site.node(HOST), provisioning, lambda: None)
    drivers.given = open_host(debian_12.target())
    terms = OperationTerms(fence.operation, "install", number, site)
    yield NodeContext(terms, site.node(HOST), provisioning, FreeGrip(fence), drivers)
    drivers.given.run(f"rm -rf {FILE} /var/lib/levier")
    drivers.given.close()


def configure(context: NodeContext) -> JsonMap:
    component = context.cloud.components[COMPONENT]
    (step,) = (s for s in component_steps(component) if s.name == install_plan.configure(COMPONENT))
    return step.do(context)


def test_what_is_written_is_kept_with_the_revision(services: Services, context: NodeContext) -> None:
    assert services.configurations.written(HOST, 1) == ()
    assert FILE in configure(context)["changed"]
    (shown,) = services.configurations.show(HOST, revision=1)["components"]
    assert (shown["component"], shown["written"]) == (COMPONENT, True)
    on_host = context.own_host().download(FILE)
    assert on_host is not None
    assert {f["path"]: f["content"] for f in shown["files"]}[FILE].encode() == on_host.content
    kept = services.configurations.written(HOST, 1)
    assert configure(context)["changed"] == []
    assert services.configurations.written(HOST, 1) == kept


def test_what_could_not_be_written_is_not_kept(services: Services, context: NodeContext) -> None:
    context.own_host().run(f"mkdir -p {FILE}/in-the-way")
    with pytest.raises(Rejected):
        configure(context)
    assert services.configurations.written(HOST, 1) == ()
