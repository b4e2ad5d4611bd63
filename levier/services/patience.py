"""How long Levier waits for machines before it says that something does not come."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields

from levier.domain.errors import InvalidRequest
from levier.saga.engine import LEASE_S
from levier.services.boot_wait import BootPatience


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Limits in seconds; the defaults are those of real servers. Each is set by `LEVIER_` and its name in capitals."""

    power_timeout_s: float = 60.0
    """Until a power state that was asked for is seen."""
    first_sign_timeout_s: float = 900.0
    """Until a machine that was powered on fetches its boot script; its self test comes first."""
    silence_timeout_s: float = 180.0
    """Between two signs of life of the ramdisk: a waiting one asks every 30 s, a writing one reports every 2 s."""
    agent_timeout_s: float = 1800.0
    """Until the ramdisk has reported what the machine is."""
    write_timeout_s: float = 3600.0
    """From the order to write the image until it is verified; a silent ramdisk is noticed sooner."""
    host_timeout_s: float = 900.0
    """From the end of the writing until the host answers by SSH: another self test, and the first boot."""
    clock_timeout_s: float = 60.0
    """For a host's clock to come right, once its time servers are configured."""
    lease_s: float = LEASE_S
    """Without a sign of life after which a worker counts as dead."""

    @property
    def boot(self) -> BootPatience:
        """The part that waiting for a ramdisk takes."""
        return BootPatience(first_sign_s=self.first_sign_timeout_s, silence_s=self.silence_timeout_s)


def load_patience() -> Patience:
    """The limits of this process, from the environment, each with its default. Raises InvalidRequest naming it."""
    found: dict[str, float] = {}
    for limit in fields(Patience):
        variable = f"LEVIER_{limit.name.upper()}"
        if (text := os.environ.get(variable)) is not None:
            found[limit.name] = _seconds(variable, text)
    return Patience(**found)


def _seconds(variable: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86400:
        raise InvalidRequest(f"{variable}={text!r} is no time limit", hint=f"set {variable} to seconds, at most 86400")
    return seconds
