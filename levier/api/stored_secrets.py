"""Secrets: they go in, their names come out, their values never do."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from levier.api.access import ServicesOf
from levier.domain.errors import InvalidRequest
from levier.services.provisioning import INTERNAL

router = APIRouter(prefix="/secrets", tags=["secrets"])


def _of_an_operator(name: str) -> str:
    """The name, which is not of a secret that Levier made for itself. Raises InvalidRequest."""
    if name.startswith(INTERNAL):
        raise InvalidRequest(
            f"secret {name} is Levier's own: without it, Levier reaches its hosts no more",
            hint=f"choose a name that does not begin with {INTERNAL}",
        )
    return name


OperatorsName = Annotated[str, Depends(_of_an_operator)]


@router.get("")
def names(services: ServicesOf) -> list[str]:
    """The names of all secrets an operator stored."""
    return [n for n in services.secrets.names() if not n.startswith(INTERNAL)]


@router.put("/{name}", status_code=204)
def put(name: OperatorsName, values: dict[str, str], services: ServicesOf) -> None:
    """The secret holds these values. Safe to repeat. 422 for one that Levier made for itself."""
    services.secrets.set(name, values)


@router.delete("/{name}", status_code=204)
def delete(name: OperatorsName, services: ServicesOf) -> None:
    """There is no such secret any more. 404 when there was none; 422 for one that Levier made for itself."""
    services.secrets.delete(name)
