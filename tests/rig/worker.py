"""A worker on an operation of one node and any steps, without Prefect; the node's machine does not exist."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine

from levier import __version__
from levier.domain.operation import PlannedStep
from levier.domain.site import Site
from levier.saga.engine import LEASE_S, Saga
from levier.saga.step import Step, StepRegistry
from levier.saga.verbs import Verbs
from levier.services.boot import BootEntries, NoDhcp
from levier.services.context import NodeContext, OperationTerms
from levier.services.operation_run import OperationRun
from levier.services.provisioning import Provisioning
from levier.services.seal import AesGcmSeal, key_in_file
from levier.services.secrets import SecretStore
from levier.store.addresses import AddressStore
from levier.store.boot import BootStore
from levier.store.nodes import NodeStore
from levier.store.step_log import SqlStepLog
from levier.store.verb_log import SqlVerbLog

NODE = "n1"


def saga_on(engine: Engine, *, lease_s: float = LEASE_S) -> Saga:
    return Saga(SqlStepLog(engine), lambda: datetime.now(UTC), __version__, lease_s=lease_s)


def bare_worker(
    engine: Engine,
    directory: Path,
    steps: Sequence[Step[NodeContext]],
    *,
    lease_s: float = LEASE_S,
    tell: Callable[[str], None] = print,
) -> OperationRun:
    """A worker that has taken over a new operation of these steps. Close it."""
    saga = saga_on(engine, lease_s=lease_s)
    registry = StepRegistry()
    registry.add(*steps)
    operation = saga.create(kind="test", targets=[NODE], plan=[PlannedStep(step.name, NODE) for step in steps])
    seal = AesGcmSeal(key_in_file(directory / "seal.key"))
    services = Provisioning(
        NodeStore(engine),
        AddressStore(engine),
        BootEntries(BootStore(engine), seal=seal, dhcp=NoDhcp()),
        SecretStore(directory / "secrets"),
        directory / "images",
    )
    terms = OperationTerms(operation.id, "test", 1, Site.model_validate(_site()))
    verbs = Verbs(SqlStepLog(engine), SqlVerbLog(engine), registry, clock=lambda: datetime.now(UTC))
    return OperationRun(saga, verbs, registry, services, terms, run="test", tell=tell)


def _site() -> dict[str, object]:
    node = {
        "name": NODE,
        "rack": "r1",
        "firmware": "bios",
        "image": "debian-12",
        "bmc": {"driver": "ipmi", "address": "127.0.0.1", "credential": "none"},
        "nics": [{"name": "eth0", "mac": "52:54:00:00:00:01", "network": "p", "address": "192.0.2.10"}],
    }
    network = {
        "name": "p",
        "purpose": "provisioning",
        "cidr": "192.0.2.0/24",
        "interface": "eth0",
        "server_address": "192.0.2.1",
    }
    return {
        "site": {"name": "bench"},
        "zones": [{"name": "z"}],
        "racks": [{"name": "r1", "zone": "z"}],
        "networks": [network],
        "images": [{"name": "debian-12"}],
        "nodes": [node],
    }
