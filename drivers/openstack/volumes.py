"""Volumes in cinder and what they are attached to, in a project."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from openstack.connection import Connection

from drivers.openstack.removal import Removal

AVAILABLE, IN_USE, DELETING = "available", "in-use", "deleting"
_ERRORS = "error"


@dataclass(frozen=True, slots=True)
class VolumeState:
    """What cinder says of a volume."""

    id: str
    name: str
    status: str
    attached_to: tuple[str, ...] = ()
    """Ids of servers."""

    @property
    def failed(self) -> bool:
        """It is in one of the states of error."""
        return self.status.startswith(_ERRORS)


def volumes_of(cloud: Connection, project: str, *, name: str = "") -> tuple[VolumeState, ...]:
    """The project's volumes; of this name only, when one is given."""
    listed = cloud.block_storage.volumes(details=True, all_projects=True, project_id=project)
    return tuple(_state(each) for each in listed if name in ("", each.name))


def ensure_volume(cloud: Connection, project: str, name: str, *, size_gib: int) -> str:
    """There is a volume of this name in the connection's project; its id. It may still be in the making."""
    for present in volumes_of(cloud, project, name=name):
        return present.id
    return str(cloud.block_storage.create_volume(name=name, size=size_gib, metadata={"tag": name}).id)


def volume_state(cloud: Connection, volume: str) -> VolumeState:
    """The volume's state."""
    return _state(cloud.block_storage.get_volume(volume))


def ensure_attached(cloud: Connection, volume: VolumeState, server: str) -> None:
    """The volume is being attached to the server, or is attached. Safe to repeat."""
    if server not in volume.attached_to and volume.status == AVAILABLE:
        cloud.compute.create_volume_attachment(server, volume.id)


def ensure_detached(cloud: Connection, volume: VolumeState) -> None:
    """The volume is being detached from every server. Safe to repeat."""
    if volume.status == IN_USE:
        for server in volume.attached_to:
            cloud.compute.delete_volume_attachment(server, volume.id, ignore_missing=True)


def delete_volumes(cloud: Connection, project: str, *, name: str = "") -> tuple[VolumeState, ...]:
    """The project's volumes (of the name) are being detached or deleted; those that still are there. Safe to repeat."""
    left = volumes_of(cloud, project, name=name)
    for each in left:
        _detach_or_delete(cloud, each)
    return left


def volume_removals(cloud: Connection, project: str) -> Iterator[Removal]:
    """How each of the project's volumes is detached or deleted, which takes cinder its time. Safe to repeat."""
    for each in volumes_of(cloud, project):
        yield Removal(f"volume {each.name}", partial(_detach_or_delete, cloud, each))


def _detach_or_delete(cloud: Connection, volume: VolumeState) -> None:
    ensure_detached(cloud, volume)
    if volume.status == AVAILABLE or volume.failed:
        cloud.block_storage.delete_volume(volume.id, ignore_missing=True)


def volume_leftovers(cloud: Connection, project: str) -> tuple[str, ...]:
    """All that cinder has of the project, in words."""
    found = [f"volume {each.name} ({each.status})" for each in volumes_of(cloud, project)]
    snapshots: Any = cloud.block_storage.snapshots(details=False, all_projects=True, project_id=project)
    return (*found, *(f"snapshot {each.name}" for each in snapshots))


def _state(volume: Any) -> VolumeState:
    attached = tuple(str(each["server_id"]) for each in volume.attachments or ())
    return VolumeState(str(volume.id), str(volume.name), str(volume.status), attached)
