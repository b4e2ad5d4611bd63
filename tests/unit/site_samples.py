"""A small valid site file, and what tests change in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from levier.domain.site import Site
from levier.services.sitefile import SiteDocument, SiteFileInvalid, load_site

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "deployments" / "examples").glob("*.yaml"))

SAMPLE = """\
site: {name: demo, domain: demo.example, timezone: Etc/UTC}
zones: [{name: a}, {name: b}]
racks: [{name: a1, zone: a}, {name: b1, zone: b}]
networks:
  - name: provisioning
    purpose: provisioning
    cidr: 10.77.0.0/24
    gateway: 10.77.0.1
    interface: br-prov
    server_address: 10.77.0.2
    dhcp_range: {start: 10.77.0.100, end: 10.77.0.199}
    host_range: {start: 10.77.0.10, end: 10.77.0.99}
  - name: storage
    purpose: storage
    cidr: 10.78.0.0/24
    host_range: {start: 10.78.0.10, end: 10.78.0.12}
images:
  - name: debian-12
nodes:
  - name: a1-01
    rack: a1
    serial: LV-0001
    firmware: bios
    image: debian-12
    roles: [compute]
    labels: {tier: gold}
    bmc: {driver: ipmi, address: 127.0.77.11, port: 6230, credential: lab-bmc}
    nics:
      - {name: eth0, mac: "52:54:00:00:00:01", network: provisioning, address: 10.77.0.20}
      - {name: eth1, mac: "52:54:00:00:00:02", network: storage}
    root_device: {serial: ROOT-1}
  - name: b1-01
    rack: b1
    serial: LV-0002
    firmware: uefi
    image: debian-12
    bmc: {driver: ipmi, address: 127.0.77.12, credential: lab-bmc}
    nics:
      - {name: eth0, mac: "52:54:00:00:00:03", network: provisioning}
"""


def load(text: str) -> SiteDocument:
    return load_site(text, "site.yaml")


def refusal(text: str) -> SiteFileInvalid:
    """The error that `text` meets; fails when it is accepted."""
    try:
        load(text)
    except SiteFileInvalid as error:
        return error
    raise AssertionError("the file was accepted")


def edited(*changes: tuple[str, str]) -> str:
    """The sample with each (old, new) replaced at the first place; fails when there is no such place."""
    text = SAMPLE
    for old, new in changes:
        assert old in text, f"the sample has no {old!r}"
        text = text.replace(old, new, 1)
    return text


def position_of(text: str, part: str) -> tuple[int, int]:
    """Line and column, from 1, of the last `part` in `text`."""
    before = text[: text.rindex(part)]
    return before.count("\n") + 1, len(before) - before.rfind("\n")


_NODE = """
  - name: {name}
    rack: {rack}
    firmware: bios
    image: debian-12
    roles: [{roles}]
    bmc: {{driver: ipmi, address: 127.0.77.{last}, credential: lab-bmc}}
    nics:
      - {{name: eth0, mac: "52:54:00:00:01:{last}", network: provisioning}}
"""


def smoke_site(hosts: Mapping[str, str], settings: str = "") -> Site:
    """A site with these hosts: name → roles; `settings` of all."""
    return site_of([(name, "a1", roles) for name, roles in hosts.items()], settings)


def site_of(hosts: Sequence[tuple[str, str, str]], settings: str = "") -> Site:
    """A site with these hosts: name, rack and roles; `settings` of all."""
    head = SAMPLE[: SAMPLE.index("nodes:")]
    nodes = [_NODE.format(name=n, rack=r, roles=o, last=21 + i) for i, (n, r, o) in enumerate(hosts)]
    return load(f"{head}{settings}\nnodes:{''.join(nodes)}").site
