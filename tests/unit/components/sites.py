"""A small site in two zones: what golden files and the overlay are about."""

from __future__ import annotations

from functools import cache

from levier.domain.site import Site
from levier.services.components import (
    ComponentSet,
    RenderedComponent,
    SiteView,
    load_components,
    render_component,
    view_site,
)
from levier.services.sitefile import load_site

TWO_ZONES = """\
site: {name: demo, domain: demo.example}
release: "2026.2"
openstack: {region: North, internal_network: management}
settings:
  nova-compute: {hypervisor: kvm, reserved_memory_mib: 1024}
  keystone:
    token_lifetime_s: 7200
    config: {keystone.conf: {token: {allow_rescope_scoped_token: false}}}
roles:
  - {name: controller, also: [haproxy, horizon]}
  - name: compute
    also: [open-iscsi, nfs-client]
    settings:
      nova-compute:
        config:
          nova.conf: {DEFAULT: {max_concurrent_builds: 4}, pci: {device_spec: ['{"address": "1"}', '{"address": "2"}']}}
zones:
  - name: a
  - name: b
    settings: {nova-compute: {hypervisor: qemu}}
racks: [{name: a1, zone: a}, {name: b1, zone: b}]
networks:
  - name: provisioning
    purpose: provisioning
    cidr: 10.77.0.0/24
    interface: br-prov
    server_address: 10.77.0.2
    host_range: {start: 10.77.0.10, end: 10.77.0.99}
  - name: management
    purpose: management
    cidr: 10.78.0.0/24
  - name: tenant
    purpose: tenant
    cidr: 10.79.0.0/24
  - name: outside
    purpose: external
    cidr: 10.80.0.0/24
images: [{name: debian-12}]
nodes:
  - name: a1-01
    rack: a1
    firmware: uefi
    image: debian-12
    roles: [controller, network, storage]
    bmc: {driver: ipmi, address: 10.90.0.1, credential: rack}
    nics:
      - {name: eth0, mac: "52:54:00:00:01:00", network: provisioning, address: 10.77.0.11}
      - {name: eth1, mac: "52:54:00:00:01:01", network: management, address: 10.78.0.11}
      - {name: eth2, mac: "52:54:00:00:01:02", network: tenant, address: 10.79.0.11}
      - {name: eth3, mac: "52:54:00:00:01:03", network: outside, address: 10.80.0.11}
  - name: a1-02
    rack: a1
    firmware: uefi
    image: debian-12
    roles: [compute]
    bmc: {driver: ipmi, address: 10.90.0.2, credential: rack}
    nics:
      - {name: eth0, mac: "52:54:00:00:02:00", network: provisioning, address: 10.77.0.12}
      - {name: eth1, mac: "52:54:00:00:02:01", network: management, address: 10.78.0.12}
      - {name: eth2, mac: "52:54:00:00:02:02", network: tenant, address: 10.79.0.12}
  - name: b1-01
    rack: b1
    firmware: uefi
    image: debian-12
    roles: [compute, storage]
    bmc: {driver: ipmi, address: 10.90.0.3, credential: rack}
    nics:
      - {name: eth0, mac: "52:54:00:00:03:00", network: provisioning, address: 10.77.0.13}
      - {name: eth1, mac: "52:54:00:00:03:01", network: management, address: 10.78.0.13}
      - {name: eth2, mac: "52:54:00:00:03:02", network: tenant, address: 10.79.0.13}
    settings:
      nova-compute: {reserved_memory_mib: 256}
      cinder-volume: {backend: lvm, volume_devices: [/dev/vdb]}
"""

ONE_NIC = """\
site: {name: lab}
roles:
  - {name: controller, without: [nova-novncproxy]}
settings: {nova-compute: {hypervisor: fake}, openvswitch: {datapath: netdev}}
zones: [{name: a}]
racks: [{name: a1, zone: a}]
networks:
  - name: provisioning
    purpose: provisioning
    cidr: 10.77.0.0/24
    interface: br-prov
    server_address: 10.77.0.2
    host_range: {start: 10.77.0.10, end: 10.77.0.99}
images: [{name: debian-12}]
nodes:
  - name: one
    rack: a1
    firmware: bios
    image: debian-12
    roles: [controller, network, compute, storage]
    bmc: {driver: ipmi, address: 10.90.0.1, credential: rack}
    nics: [{name: eth0, mac: "52:54:00:00:01:00", network: provisioning}]
  - name: two
    rack: a1
    firmware: bios
    image: debian-12
    roles: [compute]
    bmc: {driver: ipmi, address: 10.90.0.2, credential: rack}
    nics: [{name: eth0, mac: "52:54:00:00:02:00", network: provisioning}]
"""
ONE_NIC_ADDRESSES = {("one", "provisioning"): "10.77.0.10", ("two", "provisioning"): "10.77.0.11"}


@cache
def shipped() -> ComponentSet:
    return load_components()


def site_in(text: str) -> Site:
    return load_site(text, "site.yaml").site


def view_of(site: Site) -> SiteView:
    return view_site(site, shipped(), ONE_NIC_ADDRESSES)


def rendered(site: Site, host: str, component: str) -> RenderedComponent:
    return render_component(shipped(), component, site=site, view=view_of(site), host=host)
