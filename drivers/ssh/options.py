"""How a host is talked to, apart from where it is and who it is."""

from __future__ import annotations

from dataclasses import dataclass

from levier.domain.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class SshOptions:
    """Time limits, privileges and bounds of one host's connection; the defaults suit a root login."""

    connect_timeout_s: float = 10.0
    """Seconds for the TCP connection, per address of the host."""
    handshake_timeout_s: float = 15.0
    """Seconds each for the key exchange, the authentication and the opening of a session."""
    dead_peer_timeout_s: float = 30.0
    """Seconds after which a host that no longer acknowledges anything counts as gone."""
    become: bool = False
    """Everything runs as root through `sudo -n`; for a login that is not root and may do so without a password."""
    max_sessions: int = 8
    """Commands at the same time over the one connection; sshd_config(5) allows `MaxSessions 10` by default."""
    max_output_bytes: int = 256 * 2**20
    """Bytes accepted from each of standard output and standard error."""

    def __post_init__(self) -> None:
        numbers = (self.connect_timeout_s, self.handshake_timeout_s, self.dead_peer_timeout_s, self.max_sessions)
        if min(numbers) <= 0 or self.max_output_bytes <= 0:
            raise InvalidRequest(
                f"an SSH option is not positive: {self}", hint="Give every limit as a number above zero."
            )
