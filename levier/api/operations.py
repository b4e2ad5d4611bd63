"""Operations: what changes the world."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from levier.api.access import Caller, ServicesOf

router = APIRouter(prefix="/operations", tags=["operations"])


class OperationRequest(BaseModel):
    """Which operation is wanted, on which nodes. Parameters are those of the flow of that name."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["expand", "inspect", "install"]
    nodes: list[str] = Field(default_factory=list)
    parallel: Annotated[int, Field(ge=1, le=500)] = 20
    wave_size: Annotated[int, Field(ge=1, le=500)] = 100
    in_band: bool = True


class Order(BaseModel):
    """Why something is ordered."""

    model_config = ConfigDict(extra="forbid")
    reason: Annotated[str, Field(max_length=1000)] = ""


class Decision(BaseModel):
    """Why somebody decides what Levier cannot know. Blanks are no reason."""

    model_config = ConfigDict(extra="forbid")
    reason: Annotated[str, Field(max_length=1000)]


class SkipDecision(Decision):
    """Which step is taken out of the plan; `node` where the step failed on several."""

    step: str
    node: str | None = None


NO_REASON = Order()


@router.get("")
def operations(services: ServicesOf) -> list[dict[str, Any]]:
    """All operations, oldest first, without their steps."""
    return services.operations.all()


@router.post("", status_code=202)
def start(request: OperationRequest, services: ServicesOf, who: Caller) -> dict[str, Any]:
    """The operation is planned and its flow run scheduled. 422, 404 or 409, and nothing touched, when it cannot be."""
    options: dict[str, Any] = {"parallel": request.parallel, "wave_size": request.wave_size}
    if request.kind == "inspect":
        options["in_band"] = request.in_band
    if request.kind == "install":
        options = {"parallel": request.parallel}
    return services.operations.start(request.kind, request.nodes, options, who=who)


@router.get("/plans/install")
def installation_plan(services: ServicesOf, parallel: Annotated[int, Query(ge=1, le=500)] = 20) -> list[dict[str, Any]]:
    """What an installation would do, stage by stage; nothing is touched. 422, 404 or 409 when it cannot be."""
    return services.operations.preview(parallel=parallel)


@router.get("/recover")
def recovery_plan(services: ServicesOf) -> list[dict[str, Any]]:
    """What a recovery would do now, one entry for each operation that has not ended; nothing is touched."""
    return services.recovery.look()


@router.post("/recover")
def recover(services: ServicesOf) -> list[dict[str, Any]]:
    """Operations that nobody works on go on or are being undone; `done` says what became of each. Safe to repeat."""
    return services.recovery.execute(services.recovery.plan())


@router.get("/{operation}")
def show(operation: str, services: ServicesOf, flow_run: str | None = None) -> dict[str, Any]:
    """The operation with every step. `pending`: whether `flow_run` still has something to do."""
    return services.operations.show(operation, flow_run=flow_run)


@router.get("/{operation}/audit")
def audit(operation: str, services: ServicesOf) -> list[dict[str, Any]]:
    """Who decided what about the operation, when and why, in order."""
    return services.steering.audit(operation)


@router.post("/{operation}/cancel", status_code=202)
def cancel(operation: str, services: ServicesOf, who: Caller, order: Order = NO_REASON) -> dict[str, Any]:
    """The operation stops at its next safe point and is undone. Safe to repeat."""
    return services.steering.cancel(operation, who=who, reason=order.reason.strip())


@router.post("/{operation}/rollback", status_code=202)
def rollback(operation: str, services: ServicesOf, who: Caller, order: Order = NO_REASON) -> dict[str, Any]:
    """The operation is being undone by a flow run of its own. Safe to repeat."""
    return services.steering.rollback(operation, who=who, reason=order.reason.strip())


@router.post("/{operation}/resume", status_code=202)
def resume(operation: str, services: ServicesOf, who: Caller, order: Order = NO_REASON) -> dict[str, Any]:
    """The stuck operation goes on, `direction` says where. Safe to repeat while it is stuck; 409 in other states."""
    return services.steering.resume(operation, who=who, reason=order.reason.strip())


@router.post("/{operation}/skip")
def skip(operation: str, decision: SkipDecision, services: ServicesOf, who: Caller) -> dict[str, Any]:
    """The failed step counts as done, or its failed undo as given up; the operation stays stuck until resumed."""
    return services.steering.skip(operation, decision.step, node=decision.node, who=who, reason=decision.reason)


@router.post("/{operation}/abandon")
def abandon(operation: str, decision: Decision, services: ServicesOf, who: Caller) -> dict[str, Any]:
    """The stuck operation is cancelled as it stands; nodes that are neither ready nor as before have a fault."""
    return services.steering.abandon(operation, who=who, reason=decision.reason)
