"""Services of a host that take no new work, and the reason that nova and cinder remember for it.

Sources: compute API reference, PUT /os-services/{service_id}, microversion 2.53; block storage API reference,
PUT /os-services/disable-log-reason and /os-services/enable.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import cast

from openstack.block_storage.v3._proxy import Proxy
from openstack.block_storage.v3.service import Service as VolumeService
from openstack.compute.v2.service import Service as ComputeService
from openstack.connection import Connection

_COMPUTE, _VOLUME = "nova-compute", "cinder-volume"


def disabled_services(cloud: Connection, host: str, reason: str, binaries: Collection[str]) -> tuple[str, ...]:
    """Those of the `binaries` on the host that are disabled for exactly this reason. Safe to repeat."""
    return tuple(sorted({each.binary for each in _services(cloud, host, binaries) if _is_disabled(each, reason)}))


def enable_services(cloud: Connection, host: str, reason: str, binaries: Collection[str]) -> tuple[str, ...]:
    """None of the `binaries` on the host is disabled for exactly this reason; those that were. Safe to repeat."""
    enabled = []
    for each in _services(cloud, host, binaries):
        if _is_disabled(each, reason):
            if isinstance(each, ComputeService):
                cloud.compute.enable_service(each)
            else:
                _cinder(cloud).enable_service(each)
            enabled.append(each.binary)
    return tuple(sorted(set(enabled)))


def disable_services(cloud: Connection, host: str, reason: str, binaries: Collection[str]) -> tuple[str, ...]:
    """The `binaries` on the host are disabled, for this reason unless they were for another; which were not.

    Safe to repeat.
    """
    disabled = []
    for each in _services(cloud, host, binaries):
        if each.status != "disabled":
            if isinstance(each, ComputeService):
                cloud.compute.disable_service(each, disabled_reason=reason)
            else:
                _cinder(cloud).disable_service(each, reason=reason)
            disabled.append(each.binary)
    return tuple(sorted(set(disabled)))


def _is_disabled(service: ComputeService | VolumeService, reason: str) -> bool:
    return bool(service.status == "disabled" and service.disabled_reason == reason)


def _services(cloud: Connection, host: str, binaries: Collection[str]) -> Iterator[ComputeService | VolumeService]:
    """Those that there are. Cinder's have a backend in their host's name: b1-01@lvm."""
    if _COMPUTE in binaries:
        yield from list(cloud.compute.services(binary=_COMPUTE, host=host))
    if _VOLUME in binaries:
        services = list(_cinder(cloud).services(binary=_VOLUME))
        yield from (each for each in services if str(each.host).partition("@")[0] == host)


def _cinder(cloud: Connection) -> Proxy:
    return cast(Proxy, cloud.block_storage)
