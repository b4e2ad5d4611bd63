"""The boot service's work for the machines: scripts with one-time tokens, sessions, reports, images and seeds."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from levier.domain.agentwire import parse_inventory, parse_mac, parse_report, render_script
from levier.domain.netboot import AgentAction
from levier.services.boot import utc_now
from levier.services.seal import Seal
from levier.store.boot import BootStore
from levier.store.boot_sessions import BootSessionStore, ClaimOutcome, SessionState

_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim's answer: the session's secret, or why it was refused."""

    session: str
    refusal: str = ""

    def __repr__(self) -> str:
        return f"Claim(session=***, refusal={self.refusal!r})"


class BootAgents:
    """What a booting machine may ask. Thread-safe. Secrets are looked up and stored as SHA-256 digests only.

    A digest is enough, without salt or stretching, because every secret has 256 random bits.
    """

    def __init__(
        self, sessions: BootSessionStore, entries: BootStore, *, seal: Seal, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._sessions = sessions
        self._entries = entries
        self._seal = seal
        self._clock = clock

    def script(self, mac: str, *, boot_url: str) -> str | None:
        """The machine's boot script with a fresh token, which ends the one before; None without a boot entry.

        Raises InvalidRequest for what is no MAC.
        """
        token = secrets.token_urlsafe(_SECRET_BYTES)
        address = parse_mac(mac)
        entry_id = self._sessions.mint(mac=address, token_digest=_digest(token), now=self._clock())
        if entry_id is None:
            return None
        return render_script(boot_url=boot_url, entry_id=entry_id, token=token, mac=address)

    def has_entry(self, entry_id: str) -> bool:
        """Whether the boot entry stands."""
        return self._sessions.has_entry(entry_id)

    def claim(self, token: str, *, body: bytes) -> Claim:
        """A session for the machine that `body` describes; the token is used up. NOT repeatable: by design.

        Raises InvalidRequest for a malformed inventory, in which case the token still works.
        """
        inventory = parse_inventory(body)
        session = secrets.token_urlsafe(_SECRET_BYTES)
        outcome, _node = self._sessions.claim(
            token_digest=_digest(token), session_digest=_digest(session), inventory=inventory, now=self._clock()
        )
        if outcome is not ClaimOutcome.ACCEPTED:
            return Claim(session="", refusal=outcome.value)
        return Claim(session=session)

    def ask(self, session: str) -> SessionState | None:
        """What the agent is told now; None when the session ended."""
        return self._sessions.session(_digest(session), now=self._clock(), hand_out=True)

    def report(self, session: str, *, body: bytes) -> bool:
        """The report is kept. False when the session ended; raises InvalidRequest for a malformed report."""
        report = parse_report(body)
        return self._sessions.report(_digest(session), report, now=self._clock()) is not None

    def may_read_image(self, session: str, sha256: str) -> bool:
        """Whether this session was told to write just this image."""
        state = self._sessions.session(_digest(session), now=self._clock())
        if state is None or state.instruction.action is not AgentAction.WRITE or state.instruction.image is None:
            return False
        return state.instruction.image.sha256 == sha256

    def seed(self, session: str) -> bytes | None:
        """The seed this session was told to write, in clear; None when there is none for it."""
        sealed = self._sessions.sealed_seed(_digest(session), now=self._clock())
        return None if sealed is None else self._seal.open(sealed)

    def versions(self) -> dict[str, int]:
        """The version of every standing entry's instruction, by entry id."""
        return self._entries.versions()


@dataclass(frozen=True, slots=True)
class DeployFiles:
    """The kernel and the ramdisk that machines are booted with."""

    kernel: Path
    ramdisk: Path


@dataclass(frozen=True, slots=True)
class BootServices:
    """What the boot service's HTTP application works with.

    `deploy_files` finds the deploy ramdisk, anew for each request, so that one that comes later counts. `boot_url` is
    BOOT of the protocol; when empty, it is the address of this machine that the request came in on, which is right for
    several provisioning networks. `image_path` finds a cached image by its SHA-256, `bundle_path` the
    bundle of a release.
    """

    agents: BootAgents
    deploy_files: Callable[[], DeployFiles | None]
    image_path: Callable[[str], Path | None]
    bundle_path: Callable[[str], Path | None]
    boot_url: str = ""
    hold_s: float = 20.0
    """How long `next` is held while there is nothing to do."""
    watch_s: float = 0.1
    """How often the database is looked at for new instructions while agents wait: one query for all of them."""


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
