"""Who may call the API: the holder of the token that `levier up` made."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Annotated

from fastapi import Header, HTTPException


def require_token(expected: str) -> Callable[[str | None], str]:
    """A dependency that lets only calls with this bearer token pass and names the caller; 401 otherwise."""

    def check(authorization: Annotated[str | None, Header()] = None) -> str:
        scheme, _, offered = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not secrets.compare_digest(offered.encode(), expected.encode()):
            raise HTTPException(401, {"error": "Unauthorised", "message": "a valid API token is needed"})
        return "operator"

    return check
