"""Writes the site file that describes a lab to the product: the only place that knows the site file's form."""

from __future__ import annotations

import io
from typing import Any

from ruamel.yaml import YAML

from levier.lab.packages.upstream import ARCHIVE, SECURITY
from levier.lab.spec import BRIDGE, SERVER, SMALL_RACK, MirrorSpec, NodeSpec, RackSpec

CREDENTIAL = "lab-bmc"
"""The credential reference that every node of a lab uses."""


def render_site(spec: RackSpec) -> str:
    """The site file of this lab, as YAML text."""
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 120
    out = io.StringIO()
    yaml.dump(_site(spec), out)
    return f"# Written by `levier lab up` for the lab {spec.name}.\n{out.getvalue()}"


def _site(spec: RackSpec) -> dict[str, Any]:
    zones = sorted({node.zone for node in spec.nodes})
    racks = sorted({(node.rack, node.zone) for node in spec.nodes})
    return {
        "site": {
            "name": spec.name,
            "timezone": "Etc/UTC",
            "ntp_servers": [],
            "authorized_keys": [],
            **({"ssh_port": spec.ssh_port} if spec.stub else {}),
            **({"packages": {"debian": _packages(spec, spec.mirror)}} if spec.mirror else {}),
        },
        "zones": [{"name": zone} for zone in zones],
        "racks": [{"name": rack, "zone": zone} for rack, zone in racks],
        "networks": [_loopback(spec) if spec.stub else _provisioning(spec)],
        "images": [{"name": spec.image}],
        "nodes": [_node(node, image=spec.image) for node in spec.nodes],
    }


def _packages(spec: RackSpec, mirror: MirrorSpec) -> dict[str, Any]:
    """The mirror that machines of this lab can reach, and no other."""
    return {
        "mirror": f"{spec.mirror_url}/{ARCHIVE}",
        **({"security_mirror": f"{spec.mirror_url}/{SECURITY}"} if mirror.security else {}),
        **({} if mirror.check_valid_until else {"check_valid_until": False}),
    }


def _loopback(spec: RackSpec) -> dict[str, Any]:
    """The firmware of a stub machine knows the boot service's address by itself, like one with static HTTP boot."""
    return {
        "name": "provisioning",
        "purpose": "provisioning",
        "cidr": str(spec.network),
        "dhcp": "external",
        "server_address": str(spec.server),
        "host_range": {"start": "127.78.16.0", "end": "127.78.31.255"},
    }


def _provisioning(spec: RackSpec) -> dict[str, Any]:
    small = len(spec.nodes) <= SMALL_RACK
    dhcp, hosts = (
        (("10.77.0.100", "10.77.0.199"), ("10.77.0.10", "10.77.0.99"))
        if small
        else (("10.77.128.0", "10.77.143.255"), ("10.77.16.0", "10.77.31.255"))
    )
    return {
        "name": "provisioning",
        "purpose": "provisioning",
        "cidr": str(spec.network),
        "gateway": str(SERVER),
        "interface": BRIDGE,
        "server_address": str(SERVER),
        "dhcp_range": {"start": dhcp[0], "end": dhcp[1]},
        "host_range": {"start": hosts[0], "end": hosts[1]},
    }


def _node(node: NodeSpec, *, image: str) -> dict[str, Any]:
    return {
        "name": node.name,
        "rack": node.rack,
        "serial": node.serial,
        "firmware": node.firmware.value,
        "image": image,
        "roles": ["compute"],
        "labels": {},
        "bmc": {
            "driver": "ipmi",
            "address": node.bmc_address,
            "port": node.bmc_port,
            "credential": CREDENTIAL,
            "min_interval_s": 0.0,  # the lab's BMCs need no rest between two commands
        },
        "nics": [{"name": "eth0", "mac": node.mac, "network": "provisioning"}],
        "root_device": {"serial": node.disk_serial},
    }
