"""Everything Levier can do, in one object that the composition root fills."""

from __future__ import annotations

from dataclasses import dataclass

from levier.services.boot import BootEntries
from levier.services.boot_agents import BootAgents
from levier.services.cloud_access import CloudAccess
from levier.services.configurations import Configurations
from levier.services.images import Images
from levier.services.inventory_view import InventoryView
from levier.services.operations import Operations
from levier.services.recovery import Recovery
from levier.services.releases import Releases
from levier.services.secrets import SecretStore
from levier.services.set_aside import SetAside
from levier.services.settings import Settings
from levier.services.sites import Sites
from levier.services.steering import Steering


@dataclass(frozen=True, slots=True)
class Services:
    """The services of one installation."""

    settings: Settings
    sites: Sites
    configurations: Configurations
    cloud_access: CloudAccess
    inventory: InventoryView
    operations: Operations
    steering: Steering
    set_aside: SetAside
    recovery: Recovery
    images: Images
    releases: Releases
    secrets: SecretStore
    boot_entries: BootEntries
    boot_agents: BootAgents
