"""An installation as it is ordered: which hosts, in which stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from levier.domain.component_placement import Components
from levier.domain.errors import InvalidRequest
from levier.domain.install_plan import InstallStage, install_stages
from levier.domain.node import NodeState
from levier.domain.site import Node, Site
from levier.domain.smoke import smoke_scope
from levier.domain.step_estimates import StepEstimates, stage_s
from levier.services.cloud import Cloud
from levier.services.provisioning import Provisioning
from levier.services.smoke import newest_guest
from levier.services.steps.record import DEPLOYABLE
from levier.services.steps.sequences import EXPAND


@dataclass(frozen=True, slots=True)
class Installation:
    """Finds the hosts of a cloud fit, and plans. Touches nothing."""

    cloud: Cloud
    services: Provisioning

    @property
    def components(self) -> Components:
        """All components there are."""
        return self.cloud.components

    def hosts(self, site: Site, names: Sequence[str], check_expand: Callable[..., None]) -> list[Node]:
        """The nodes with roles, each fit to be installed. Raises InvalidRequest, NotFound or Conflict.

        A cloud is installed as a whole: naming nodes is for expand.
        """
        if names:
            raise InvalidRequest("a cloud is installed as a whole", hint="name no nodes; `levier expand` takes names")
        self.cloud.check_certificate(site)
        hosts = [node for node in site.nodes if node.roles]
        for node in hosts:
            if self._is_bare(node):
                check_expand("expand", site, node, disturbs=True)
            self.cloud.bundle(site, node)
        if smoke_scope(site, self.components).hosts:
            newest_guest(self.services.image_cache)
        return hosts

    def stages(self, site: Site, hosts: Sequence[Node]) -> tuple[InstallStage, ...]:
        """What is done where, in order. Nodes that are not ready are expanded first."""
        bare = frozenset(node.name for node in hosts if self._is_bare(node))
        return install_stages(site, self.components, expand=[each.name for each in EXPAND], to_expand=bare)

    def preview(
        self, site: Site, hosts: Sequence[Node], estimates: StepEstimates, *, parallel: int
    ) -> list[dict[str, Any]]:
        """The stages in plain JSON types: `stage`, `estimate_s`, and `steps` by hosts that do the same."""
        served = [n.name for n in hosts if self.services.nodes.get(n.name).state is NodeState.IN_SERVICE]
        return [
            {
                "stage": stage.title,
                "estimate_s": round(stage_s(stage.steps, estimates, done_on=served, parallel=parallel), 1),
                "steps": [{"hosts": alike, "steps": names} for names, alike in stage.by_hosts()],
            }
            for stage in self.stages(site, hosts)
        ]

    def _is_bare(self, node: Node) -> bool:
        state = self.services.nodes.get(node.name).state
        if state not in (*DEPLOYABLE, NodeState.READY, NodeState.IN_SERVICE):
            raise InvalidRequest(f"node {node.name} is {state}", hint="wait until it is ready, or take its role away")
        return state in DEPLOYABLE
