"""The clouds that the walk goes up and down: a small one for every run of the tests, and one with everything."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ruamel.yaml import YAML

from levier.domain.install_plan import InstallStage, install_stages
from levier.domain.site import Site
from levier.lab.sitefile import render_site
from levier.lab.spec import ChassisKind, RackSpec, plan_rack
from levier.services.components.installed import installed_components
from levier.services.sitefile import load_site
from levier.services.steps.sequences import EXPAND
from tests.rig.release_cache import CLOUD_RELEASE


@dataclass(frozen=True)
class CloudLayout:
    """Which host has which roles, and what these consist of."""

    name: str
    hosts: tuple[tuple[str, ...], ...]
    """The roles of each host."""
    roles: tuple[dict[str, Any], ...]
    settings: dict[str, Any] = field(default_factory=dict)

    def document(self, rack_site: str) -> str:
        """The site file of the rack, as text, with this cloud on it."""
        yaml = YAML(typ="safe")
        site = yaml.load(rack_site)
        for node, roles in zip(site["nodes"], self.hosts, strict=True):
            node["roles"] = list(roles)
        site |= {"release": CLOUD_RELEASE, "roles": list(self.roles), "settings": self.settings}
        out = io.StringIO()
        yaml.dump(site, out)
        return out.getvalue()

    @cached_property
    def site(self) -> Site:
        """The site as it is planned for: on a rack of this size."""
        return load_site(self.document(render_site(self.rack("planned"))), "site.yaml").site

    @cached_property
    def stages(self) -> tuple[InstallStage, ...]:
        """The installation on hosts that are ready."""
        return install_stages(
            self.site, installed_components(), expand=[each.name for each in EXPAND], to_expand=frozenset()
        )

    def rack(self, name: str, **more: Any) -> RackSpec:
        """A rack that the cloud fits on."""
        return plan_rack(name=name, chassis=ChassisKind.NSPAWN, nodes=len(self.hosts), **more)


SMALL = CloudLayout(
    name="small",
    hosts=(("controller",), ("storage",)),
    # The second host has hardly anything on it: packages and releases come and go there at little cost.
    roles=(
        {"name": "controller", "components": ["mariadb", "rabbitmq", "memcached", "keystone", "placement"]},
        {"name": "storage", "components": ["memcached"]},
    ),
)
WHOLE = CloudLayout(
    name="whole",
    hosts=(("controller", "network", "storage"), ("compute",)),
    roles=({"name": "controller", "also": ["haproxy", "horizon"]},),
    # Servers that are no machines: what the steps of the smoke test do is seen without waiting for their boot.
    settings={"nova-compute": {"hypervisor": "fake"}, "cinder-volume": {"volatile_mib": 1024}},
)
