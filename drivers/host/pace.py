"""How fast a host is at this moment, for those who wait for something on it."""

from __future__ import annotations

import time

from levier.domain.ssh import RemoteHost

USUAL_S = 0.5
"""What the sample takes at most on a server with little else to do, SSH included (measured: 0.08 to 0.3 s)."""
SLOWEST = 8.0
_TIMEOUT_S = 120.0
# Starting an interpreter with modules that services load: what the start of a service consists of.
_SAMPLE = "exec python3 -I -c 'import asyncio, email.parser, http.client, json, ssl, urllib.request'"


def slowness(host: RemoteHost) -> float:
    """How many times slower than a usual server the host is now, 1 to 8. Changes nothing.

    An emulated machine, or one that others keep busy, is several times slower; so is everything that starts on it.
    """
    began = time.monotonic()
    host.run(_SAMPLE, timeout_s=_TIMEOUT_S, check=False)
    return min(max((time.monotonic() - began) / USUAL_S, 1.0), SLOWEST)
