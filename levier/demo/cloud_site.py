"""What makes a cloud of a lab's site file: a release, roles and settings."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

RELEASE = "2026.2"
ROLES = (["controller", "network"], ["compute", "storage"], ["compute"])
"""Of the first machine, the second, and all others. Without NFS, volumes are for servers on the storage host itself."""
ADDITIONS: dict[str, Any] = {
    "release": RELEASE,
    # Machines of a rack that is emulated itself have no hardware support for servers, nor disks for volumes.
    "settings": {"nova-compute": {"hypervisor": "qemu"}, "cinder-volume": {"volatile_mib": 2048}},
    # TLS for the public endpoints, and a web interface.
    "roles": [{"name": "controller", "also": ["haproxy", "horizon"]}],
}


def write_cloud_site(lab_site: Path, target: Path) -> str:
    """`target` is the lab's site file with a controller first, compute hosts after it; what was added, in YAML."""
    yaml = YAML()
    yaml.default_flow_style = False
    site = yaml.load(lab_site.read_text(encoding="utf-8"))
    site.update(ADDITIONS)
    for index, node in enumerate(site["nodes"]):
        node["roles"] = list(ROLES[min(index, len(ROLES) - 1)])
    roles = [{"name": node["name"], "roles": list(node["roles"])} for node in site["nodes"]]
    with target.open("w", encoding="utf-8") as file:
        yaml.dump(site, file)
    shown = io.StringIO()
    yaml.dump({**ADDITIONS, "nodes": roles}, shown)
    return shown.getvalue()
