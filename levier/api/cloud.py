"""The installed cloud."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from levier.api.access import Caller, ServicesOf

router = APIRouter(prefix="/cloud", tags=["capacity"])


@router.post("/access", status_code=201)
def access(services: ServicesOf, who: Caller) -> dict[str, Any]:
    """A new login to the cloud as its administrator. Its secret is in this answer and nowhere else."""
    return services.cloud_access.grant(who=who)
