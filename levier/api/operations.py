"""Operations: what changes the world."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from levier.api.access import ServicesOf

router = APIRouter(prefix="/operations", tags=["operations"])


class OperationRequest(BaseModel):
    """Which operation is wanted, on which nodes. Parameters are those of the flow of that name."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["expand", "inspect"]
    nodes: list[str] = Field(default_factory=list)
    parallel: Annotated[int, Field(ge=1, le=500)] = 20
    wave_size: Annotated[int, Field(ge=1, le=500)] = 100
    in_band: bool = True


@router.get("")
def operations(services: ServicesOf) -> list[dict[str, Any]]:
    """All operations, oldest first, without their steps."""
    return services.operations.all()


@router.post("", status_code=202)
def start(request: OperationRequest, services: ServicesOf) -> dict[str, Any]:
    """The operation is planned and its flow run scheduled. 422, 404 or 409, and nothing touched, when it cannot be."""
    options: dict[str, Any] = {"parallel": request.parallel, "wave_size": request.wave_size}
    if request.kind == "inspect":
        options["in_band"] = request.in_band
    return services.operations.start(request.kind, request.nodes, options, who="operator")


@router.get("/{operation}")
def show(operation: str, services: ServicesOf, flow_run: str | None = None) -> dict[str, Any]:
    """The operation with every step. `pending`: whether `flow_run` still has something to do."""
    return services.operations.show(operation, flow_run=flow_run)


@router.post("/{operation}/cancel", status_code=202)
def cancel(operation: str, services: ServicesOf) -> dict[str, Any]:
    """The operation stops at its next safe point and is undone. Safe to repeat."""
    return services.operations.cancel(operation, who="operator")


@router.post("/{operation}/resume", status_code=202)
def resume(operation: str, services: ServicesOf) -> dict[str, Any]:
    """The operation goes on at its open steps. Safe to repeat."""
    return services.operations.resume(operation, who="operator")


@router.post("/{operation}/rollback", status_code=202)
def rollback(operation: str, services: ServicesOf) -> dict[str, Any]:
    """The operation is being undone by a flow run of its own. Safe to repeat."""
    return services.operations.rollback(operation, who="operator")


@router.post("/recover", status_code=202)
def recover(services: ServicesOf) -> dict[str, Any]:
    """A recovery is scheduled. Safe to repeat."""
    return services.operations.recover()
