"""A site keeps its name while hosts are in service: nova knows them by it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from levier.domain.errors import Conflict
from levier.domain.node import NodeState
from levier.domain.node_record import NodeRecord
from levier.services.sites import Sites
from levier.store.base import open_engine
from levier.store.nodes import NodeStore
from levier.store.revisions import RevisionStore
from levier.store.schema_version import ensure_schema
from tests.unit.components.sites import TWO_ZONES

RENAMED = TWO_ZONES.replace("site: {name: demo,", "site: {name: prod,", 1)
CHANGED = TWO_ZONES.replace("7200", "3600", 1)


class Nodes(NodeStore):
    """The nodes of a site file, of which some have got somewhere."""

    come_to: dict[str, tuple[NodeState, str]]

    def list(self) -> tuple[NodeRecord, ...]:
        return tuple(self._seen(each) for each in super().list())

    def _seen(self, node: NodeRecord) -> NodeRecord:
        state, operation = self.come_to.get(node.name, (node.state, ""))
        return replace(node, state=state, operation=operation)


@pytest.fixture
def sites(tmp_path: Path) -> Sites:
    engine = open_engine(f"sqlite:///{tmp_path}/levier.db")
    ensure_schema(engine)
    nodes = Nodes(engine)
    nodes.come_to = {}
    made = Sites(RevisionStore(engine), nodes)
    made.apply(TWO_ZONES, "site.yaml", who="test")
    return made


def come_to(sites: Sites, **nodes: tuple[NodeState, str]) -> None:
    cast(Nodes, sites._nodes).come_to = {name.replace("_", "-"): stands for name, stands in nodes.items()}


@pytest.mark.parametrize(
    "stands",
    [
        (NodeState.IN_SERVICE, ""),
        (NodeState.DRAINING, ""),
        (NodeState.REINSTALLING, ""),
        (NodeState.READY, "install-1"),
    ],
)
def test_another_name_is_refused_and_nothing_is_stored(sites: Sites, stands: tuple[NodeState, str]) -> None:
    come_to(sites, a1_02=stands)
    with pytest.raises(Conflict, match=r"is named 'demo' and cannot be named 'prod' now: .*: a1-02$") as caught:
        sites.apply(RENAMED, "site.yaml", who="test")
    assert "keep site: {name: demo}" in caught.value.hint
    assert [each["revision"] for each in sites.revisions()] == [1]


def test_a_site_without_hosts_in_service_may_be_renamed(sites: Sites) -> None:
    come_to(sites, a1_02=(NodeState.READY, ""))
    assert sites.apply(RENAMED, "site.yaml", who="test")["created"]
    assert sites.current()[1].site.name == "prod"


def test_anything_else_may_change_while_hosts_are_in_service(sites: Sites) -> None:
    come_to(sites, a1_02=(NodeState.IN_SERVICE, ""))
    assert sites.apply(CHANGED, "site.yaml", who="test")["revision"] == 2
