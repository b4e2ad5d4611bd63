"""What Levier took out of service takes work again, and what an operator did does not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from openstack.block_storage.v3.service import Service as VolumeService
from openstack.compute.v2.service import Service as ComputeService
from openstack.connection import Connection

from drivers.openstack.drained import disable_services, disabled_services, enable_services
from levier.services.cloud import DRAINED
from tests.unit.components.sites import shipped

BOTH = ("nova-compute", "cinder-volume")


class Api:
    """The services of nova, or of cinder, as either keeps them."""

    def __init__(self, *services: Any) -> None:
        self.kept = list(services)

    def services(self, *, binary: str, host: str | None = None) -> list[Any]:
        return [each for each in self.kept if each.binary == binary and host in (None, each.host)]

    def enable_service(self, service: Any) -> None:
        service._update(status="enabled", disabled_reason=None)

    def disable_service(self, service: Any, *, disabled_reason: str = "", reason: str = "") -> None:
        service._update(status="disabled", disabled_reason=disabled_reason or reason)


def cloud(compute: str | None, volume: str | None, *, elsewhere: str | None = DRAINED) -> Connection:
    """The services of b1-01 are disabled for these reasons, or enabled; and so is that of another host."""

    def fields(binary: str, host: str, reason: str | None) -> dict[str, Any]:
        status = "enabled" if reason is None else "disabled"
        return {"binary": binary, "host": host, "status": status, "disabled_reason": reason}

    nova = Api(
        ComputeService(**fields("nova-compute", "b1-01", compute)),
        ComputeService(**fields("nova-compute", "b1-02", elsewhere)),
    )
    cinder = Api(
        VolumeService(**fields("cinder-volume", "b1-01@nfs", volume)),
        VolumeService(**fields("cinder-volume", "b1-012@nfs", elsewhere)),
    )
    return cast(Connection, SimpleNamespace(compute=nova, block_storage=cinder))


def status(cloud: Connection) -> list[tuple[str, str]]:
    found = [*cast(Api, cloud.compute).kept, *cast(Api, cloud.block_storage).kept]
    return [(each.host, each.status) for each in found]


def test_what_was_drained_takes_work_again_and_is_drained_again_by_the_undo() -> None:
    both = cloud(DRAINED, DRAINED)
    before = status(both)
    assert disabled_services(both, "b1-01", DRAINED, BOTH) == ("cinder-volume", "nova-compute")
    assert enable_services(both, "b1-01", DRAINED, BOTH) == ("cinder-volume", "nova-compute")
    assert dict(status(both)) == {**dict(before), "b1-01": "enabled", "b1-01@nfs": "enabled"}
    assert enable_services(both, "b1-01", DRAINED, BOTH) == ()
    assert disable_services(both, "b1-01", DRAINED, ("cinder-volume", "nova-compute")) != ()
    assert status(both) == before
    assert disabled_services(both, "b1-01", DRAINED, BOTH) == ("cinder-volume", "nova-compute")


@pytest.mark.parametrize("reason", ["its fan is broken", None])
def test_what_an_operator_disabled_stays_so(reason: str | None) -> None:
    own = cloud(reason, reason)
    before = status(own)
    assert disabled_services(own, "b1-01", DRAINED, BOTH) == ()
    assert enable_services(own, "b1-01", DRAINED, BOTH) == ()
    assert status(own) == before


def test_only_the_apis_of_what_runs_on_the_host_are_asked() -> None:
    nova_alone = cast(Connection, SimpleNamespace(compute=cast(Api, cloud(DRAINED, None).compute)))
    assert enable_services(nova_alone, "b1-01", DRAINED, ("nova-compute",)) == ("nova-compute",)


@pytest.mark.parametrize("component", BOTH)
def test_the_reason_is_the_one_that_the_shipped_components_give(component: str) -> None:
    drain = shipped()[component].drain
    assert drain is not None
    assert DRAINED in drain.command
