"""Registers the deployments that a `prefect.yaml` names with the Prefect server."""

from __future__ import annotations

import shlex
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args, get_type_hints
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolCreate
from prefect.deployments.runner import RunnerDeployment
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.schedules import Cron, Interval, Schedule
from prefect.workers.process import ProcessWorker
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from levier.domain.errors import InvalidRequest, NotFound

POOL = "levier"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PoolReference(_Strict):
    """Which work pool and queue the runs of a deployment go to."""

    name: str = POOL
    work_queue_name: str | None = None


class ScheduleEntry(_Strict):
    """Either an interval in seconds or a cron line with its time zone."""

    interval: float | None = Field(default=None, gt=0)
    cron: str | None = None
    timezone: str | None = None
    active: bool = True

    def as_schedule(self) -> Schedule:
        """The same as Prefect's own type. Raises InvalidRequest when neither or both kinds are given."""
        if self.interval is not None and self.cron is None:
            return Interval(timedelta(seconds=self.interval), timezone=self.timezone, active=self.active)
        if self.cron is not None and self.interval is None:
            return Cron(self.cron, timezone=self.timezone, active=self.active)
        raise InvalidRequest("a schedule needs either interval or cron", hint="see deployments/prefect.yaml")


class DeploymentEntry(_Strict):
    """One deployment of a `prefect.yaml`: the part of Prefect's format that Levier uses."""

    name: str
    entrypoint: str = Field(pattern=r"^[A-Za-z_][\w.]*\.[A-Za-z_]\w*$")
    description: str | None = None
    tags: tuple[str, ...] = ()
    parameters: dict[str, Any] = Field(default_factory=dict)
    concurrency_limit: int | None = Field(default=None, ge=1)
    work_pool: PoolReference = PoolReference()
    schedules: tuple[ScheduleEntry, ...] = ()


def default_file() -> Path:
    """`deployments/prefect.yaml` of this checkout, or where a wheel installs it. Raises NotFound."""
    places = (Path(__file__).parent.parent / "deployments", Path(sys.prefix) / "share" / "levier" / "deployments")
    for place in places:
        if (place / "prefect.yaml").is_file():
            return place / "prefect.yaml"
    raise NotFound(f"no prefect.yaml in {' or '.join(map(str, places))}", hint="pass --deployments FILE")


def read_file(path: Path) -> list[DeploymentEntry]:
    """The deployments of the file at `path`. Safe to repeat. Raises InvalidRequest, naming the entry at fault."""
    try:
        document = YAML(typ="safe").load(path.read_text())
        entries = document["deployments"]
    except (OSError, YAMLError, KeyError, TypeError) as error:
        raise InvalidRequest(f"cannot read deployments from {path}: {error}") from error
    try:
        return [DeploymentEntry.model_validate(entry) for entry in entries]
    except ValidationError as error:
        raise InvalidRequest(f"{path}: {error}") from error


async def ensure_work_pool() -> None:
    """The work pool exists and starts each flow run by `flows.engine`, which dies with its runner. Safe to repeat."""
    template = ProcessWorker.get_default_base_job_template()
    # Without a command the worker starts a second interpreter that resolves a workspace: 1.6 s more per run.
    # `python` is the runner's own: it puts its directory first on PATH (flows.serve).
    template["variables"]["properties"]["command"]["default"] = shlex.join(["python", "-m", "flows.engine"])
    async with get_client() as client:
        await client.create_work_pool(
            WorkPoolCreate(name=POOL, type=ProcessWorker.type, base_job_template=template), overwrite=True
        )


def load(entry: DeploymentEntry) -> Flow[..., Any]:
    """The entry's flow; what it needs is imported. Safe to repeat. Raises InvalidRequest."""
    try:
        return load_flow_from_entrypoint(entry.entrypoint)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidRequest(f"deployment {entry.name}: cannot load {entry.entrypoint}: {error}") from error


async def register(entries: list[DeploymentEntry]) -> dict[str, str]:
    """Every entry is a deployment on the server, `flow/deployment` → id. Safe to repeat.

    Raises InvalidRequest when an entrypoint cannot be loaded.
    """
    registered: dict[str, str] = {}
    for entry in entries:
        deployment = _as_deployment(entry)
        identity = await deployment.aapply()
        await _complete_schema(identity, load(entry))
        registered[deployment.full_name] = str(identity)
    return registered


async def _complete_schema(deployment: UUID, flow: Flow[..., Any]) -> None:
    """The server's schema of the parameters has their descriptions, and refuses parameters the flow does not have.

    As registered, a description in `Annotated[…, Field(description=…)]` is lost (only a docstring's `Args:` is used),
    and a run with a misspelt parameter would start and fail.
    """
    descriptions = parameter_descriptions(flow)
    async with get_client() as client:
        schema = (await client.read_deployment(deployment)).parameter_openapi_schema or {}
        properties = {
            name: {**({"description": descriptions[name]} if name in descriptions else {}), **definition}
            for name, definition in schema.get("properties", {}).items()
        }
        complete = {**schema, "properties": properties, "additionalProperties": False}
        await client.update_deployment(deployment, DeploymentUpdate(parameter_openapi_schema=complete))


def parameter_descriptions(flow: Flow[..., Any]) -> dict[str, str]:
    """Parameter → its description, as the flow function's annotations give it. Pure."""
    found: dict[str, str] = {}
    for name, annotation in get_type_hints(flow.fn, include_extras=True).items():
        for each in get_args(annotation)[1:]:
            if isinstance(each, FieldInfo) and each.description:
                found[name] = each.description
    return found


def _as_deployment(entry: DeploymentEntry) -> RunnerDeployment:
    load(entry)
    return RunnerDeployment.from_entrypoint(
        entry.entrypoint,
        name=entry.name,
        description=entry.description,
        tags=list(entry.tags),
        parameters=entry.parameters,
        concurrency_limit=entry.concurrency_limit,
        schedules=[each.as_schedule() for each in entry.schedules],
        work_pool_name=entry.work_pool.name,
        work_queue_name=entry.work_pool.work_queue_name,
    )
