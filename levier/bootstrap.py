"""The composition root: the only place that wires drivers and store together."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from levier import __version__
from levier.saga.engine import Saga
from levier.saga.log import StepLog
from levier.saga.step import StepRegistry
from levier.saga.store_patience import StorePatience, patient
from levier.saga.verbs import Verbs
from levier.services.boot import BootEntries
from levier.services.boot_agents import BootAgents
from levier.services.cloud import Cloud
from levier.services.cloud_access import CloudAccess
from levier.services.components.installed import installed_components
from levier.services.configurations import Configurations
from levier.services.context import NodeStep
from levier.services.images import Images
from levier.services.installation import Installation
from levier.services.inventory_view import InventoryView
from levier.services.masking import SecretMask
from levier.services.netboot_process import SiteDhcp
from levier.services.operations import Operations
from levier.services.prefect_gateway import PrefectGateway
from levier.services.provisioning import Provisioning
from levier.services.recovery import Recovery
from levier.services.registry import Services
from levier.services.release_catalogue import ReleaseCatalogue, shipped_directory
from levier.services.releases import Releases
from levier.services.seal import AesGcmSeal, key_in_file
from levier.services.secrets import SecretStore
from levier.services.set_aside import SetAside
from levier.services.settings import Settings, load_settings
from levier.services.sites import Sites
from levier.services.steering import Steering
from levier.services.steps.registered import all_steps
from levier.store.addresses import AddressStore
from levier.store.base import open_engine
from levier.store.boot import BootStore
from levier.store.boot_sessions import BootSessionStore
from levier.store.configurations import ConfigurationStore
from levier.store.nodes import NodeStore
from levier.store.revisions import RevisionStore
from levier.store.schema_version import ensure_schema
from levier.store.step_log import SqlStepLog
from levier.store.verb_log import SqlVerbLog

AGENT_PATIENCE_S = 45.0
"""How long a booting machine's request waits for the database before it is answered 503: agents hang up after 60 s."""


def now() -> datetime:
    """The time, aware and in UTC."""
    return datetime.now(UTC)


@cache
def services() -> Services:
    """The services of this installation, wired once per process from its settings; the database schema is current."""
    return wire(load_settings())


def wire(
    settings: Settings,
    *,
    steps: Iterable[NodeStep] | None = None,
    open_log: Callable[[str], StepLog] | None = None,
) -> Services:
    """Services over the places that `settings` names. Raises StoreUnavailable, IncompatibleVersion.

    `steps` (without them: all there are) and `open_log` (by database URL) are where a rehearsal puts its faults: a step
    that fails, a log that dies.
    """
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
    engine = open_engine(settings.database_url)
    ensure_schema(engine)
    nodes, addresses = NodeStore(engine), AddressStore(engine)
    store = SecretStore(settings.secrets_dir)
    sites = Sites(RevisionStore(engine), nodes)
    seal = AesGcmSeal(key_in_file(settings.state_dir / "seal.key"))
    boot_store = BootStore(engine)
    boot_entries = BootEntries(boot_store, seal=seal, dhcp=SiteDhcp(settings, sites))
    releases = Releases(ReleaseCatalogue(shipped_directory(), settings.release_definitions), settings.bundle_cache)
    written = ConfigurationStore(engine)
    cloud = Cloud(installed_components(), releases, store, addresses, written, settings.boot_port)
    provisioning = Provisioning(nodes, addresses, boot_entries, store, settings.image_cache, settings.patience, cloud)
    step_log = open_log(settings.database_url) if open_log else SqlStepLog(engine)
    saga = Saga(step_log, now, __version__, lease_s=settings.patience.lease_s, conceal=SecretMask(store))
    prefect = PrefectGateway(settings.prefect_api_url)
    agents_wait = StorePatience(limit_s=AGENT_PATIENCE_S)
    registry = StepRegistry()
    registry.add(*(all_steps(cloud.components) if steps is None else steps))
    verbs = Verbs(step_log, SqlVerbLog(engine), registry, clock=now)
    inventory = InventoryView(nodes, addresses, boot_entries, host_key=provisioning.host_key)
    operations = Operations(
        saga=saga,
        verbs=verbs,
        registry=registry,
        provisioning=provisioning,
        installation=Installation(cloud, provisioning),
        sites=sites,
        prefect=prefect,
    )
    return Services(
        settings=settings,
        sites=sites,
        configurations=Configurations(sites, addresses, written),
        cloud_access=CloudAccess(cloud, sites),
        inventory=inventory,
        operations=operations,
        steering=Steering(saga=saga, verbs=verbs, operations=operations, provisioning=provisioning, prefect=prefect),
        set_aside=SetAside(provisioning, verbs, inventory),
        recovery=Recovery(saga, verbs, prefect, clock=now, code_version=__version__),
        images=Images(settings.image_cache, sites, cloud),
        releases=releases,
        secrets=store,
        boot_entries=boot_entries,
        boot_agents=BootAgents(patient(BootSessionStore(engine), agents_wait), boot_store, seal=seal),
    )


def ensure_token(path: Path) -> str:
    """The API token of this installation, made on first use with mode 0600. Safe to repeat."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    with os.fdopen(descriptor, "w") as file:
        token = secrets.token_urlsafe(32)
        file.write(token + "\n")
    return token
