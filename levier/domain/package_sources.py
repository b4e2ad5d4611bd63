"""Where hosts get packages of their distribution from, as the site file says it."""

from __future__ import annotations

import re
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, WithJsonSchema, model_validator

from levier.domain.site_types import refuse

_EXAMPLE = "http://mirror.example/debian"


def _url(value: str) -> str:
    wanted = f"expected something like {_EXAMPLE}"
    if not re.fullmatch(r"[!-~]+", value):
        raise refuse(f"{value!r} is empty or has characters that no URL has", wanted)
    try:
        parts = urlsplit(value)
        complete = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        complete = False
    if not complete:
        raise refuse(f"{value!r} is not the URL of an HTTP server", wanted)
    if parts.username is not None or parts.password is not None:  # not shown: it is or has a password
        raise refuse("a login does not belong into the site file", f"{wanted}, which needs none")
    if parts.query or parts.fragment:
        raise refuse(f"{value!r} has a query or a fragment", wanted)
    return value.rstrip("/")


def _component(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9./_-]*", value):
        raise refuse(f"{value!r} is not a component of an archive", "expected something like main or non-free-firmware")
    return value


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    if twice := sorted({value for value in values if values.count(value) > 1}):
        raise refuse(f"{', '.join(twice)} is given more than once", "expected each component once")
    return values


MirrorUrl = Annotated[
    str, Strict(), AfterValidator(_url), WithJsonSchema({"type": "string", "pattern": "^https?://[!-~]+$"})
]
Component = Annotated[
    str,
    Strict(),
    AfterValidator(_component),
    WithJsonSchema({"type": "string", "pattern": "^[a-z0-9][a-z0-9./_-]*$"}),
]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class DebianSources(_Frozen):
    """Where hosts with Debian get packages from."""

    mirror: MirrorUrl | None = None
    """URL of the archive: the directory that holds `dists`. The image's own sources are set aside then."""
    security_mirror: MirrorUrl | None = None
    """URL of the archive of security updates. Needs `mirror`; where that is given and this is not, hosts get **no**
    security updates."""
    components: Annotated[tuple[Component, ...], Field(min_length=1), AfterValidator(_distinct)] = ("main",)
    """Components of the archive, with `mirror`."""
    check_valid_until: Annotated[bool, Strict()] = True
    """`false`: lists are accepted beyond the day on which they expire, as those of a mirror that is not updated."""
    proxy: MirrorUrl | None = None
    """URL of the proxy through which hosts reach the archive, the image's own or `mirror`."""

    @model_validator(mode="after")
    def _useful(self) -> Self:
        if self.mirror is None and self.proxy is None:
            raise refuse("neither a mirror nor a proxy is given", "expected `mirror:` or `proxy:`, or no `debian:`")
        if self.mirror is None and self.security_mirror is not None:
            raise refuse("security_mirror is given without a mirror", "expected `mirror:` besides")
        return self


class PackageSources(_Frozen):
    """Where hosts get packages of their distribution from, by distribution, and what may come of it."""

    debian: DebianSources | None = None
    """For hosts with Debian; without it they use their image's own sources."""
    may_update: Annotated[bool, Strict()] = True
    """A package of the image that a new one needs in a newer version gets it: a mirror is soon newer than an image.
    `false`: refused before anything is touched."""
