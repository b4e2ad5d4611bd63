"""The installed cloud."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from levier.api.access import Caller, ServicesOf

router = APIRouter(prefix="/cloud", tags=["capacity"])


@router.get("/access")
def access(services: ServicesOf, who: Caller) -> dict[str, Any]:
    """The operators' login to the cloud, secret included: `entry` is for a clouds.yaml. 404 before an installation."""
    return services.cloud_access.show(who=who)
