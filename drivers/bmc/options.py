"""What can be tuned about the IPMI driver, per BMC, in the site file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from levier.domain import errors


class Pacing(BaseModel):
    """How gently one BMC is treated. The defaults suit real hardware; a lab sets them to 0."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_interval_s: float = Field(default=5.0, ge=0, le=300)
    """Seconds between the end of one session and the start of the next (Ironic's `min_command_interval`)."""
    settle_after_reset_s: float = Field(default=15.0, ge=0, le=600)
    """Seconds of rest after a hard reset, while which many BMCs answer nothing or nonsense."""
    poll_interval_s: float = Field(default=2.0, gt=0, le=60)
    """Seconds between two readings of a power state that is expected to change; `min_interval_s` still applies."""


class IpmiOptions(Pacing):
    """Options of the driver `ipmi`."""

    timeout_s: float = Field(default=5.0, gt=0, le=120)
    """Seconds to wait for the answer to one request, resends included."""
    resend_s: float = Field(default=1.0, gt=0, le=60)
    """Seconds after which an unanswered request that may be repeated is sent again."""
    cipher_suite: Literal[3, 17] | None = None
    """3 (SHA-1) or 17 (SHA-256); None offers 17 and accepts 3."""
    privilege: Literal["administrator", "operator"] = "administrator"
    """Privilege level asked for at login; never lowered by itself, so a refused login happens once."""


def parse_options(options: Mapping[str, object]) -> IpmiOptions:
    """The options as typed values. Touches no BMC. Raises InvalidRequest naming every wrong key."""
    try:
        return IpmiOptions.model_validate(dict(options))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        known = ", ".join(sorted(IpmiOptions.model_fields))
        raise errors.InvalidRequest(f"BMC options are not valid: {wrong}", hint=f"Known options: {known}.") from error
