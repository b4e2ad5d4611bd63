"""Secrets: they go in, their names come out, their values never do."""

from __future__ import annotations

from fastapi import APIRouter

from levier.api.access import ServicesOf

router = APIRouter(prefix="/secrets", tags=["secrets"])


@router.get("")
def names(services: ServicesOf) -> list[str]:
    """The names of all secrets an operator stored."""
    return [n for n in services.secrets.names() if not n.startswith("internal-")]


@router.put("/{name}", status_code=204)
def put(name: str, values: dict[str, str], services: ServicesOf) -> None:
    """The secret holds these values. Safe to repeat."""
    services.secrets.set(name, values)


@router.delete("/{name}", status_code=204)
def delete(name: str, services: ServicesOf) -> None:
    """There is no such secret. Safe to repeat."""
    services.secrets.delete(name)
