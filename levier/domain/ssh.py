"""What Levier asks of a host it reaches over SSH."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from levier.domain.inventory import HostFacts


@dataclass(frozen=True, slots=True)
class SshTarget:
    """A host, its login and the only host keys that are accepted from it.

    `host_keys` are OpenSSH public key lines (`ssh-ed25519 AAAA…`) known before the first connection.
    `private_key` is the operator side's private key in OpenSSH PEM text; never shown by repr.
    """

    host: str
    port: int
    username: str
    host_keys: tuple[str, ...]
    private_key: str

    def __repr__(self) -> str:
        return f"SshTarget({self.username}@{self.host}:{self.port})"


@dataclass(frozen=True, slots=True)
class CommandResult:
    """A finished command: exit status and separated output, decoded as UTF-8 with replacement."""

    exit_status: int
    stdout: str
    stderr: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class FileStat:
    """A regular file on a host."""

    content: bytes
    mode: int
    owner: str
    group: str


class RemoteHost(Protocol):
    """One host over SSH. All calls raise subclasses of DriverError and are thread-safe."""

    def run(self, command: str, *, timeout_s: float = 60.0, check: bool = True, stdin: bytes = b"") -> CommandResult:
        """The command ended. `check` raises Rejected on a non-zero status, with the end of its stderr.

        Raises OutcomeUnknown when the connection or the time ran out after the command was sent.
        """
        ...

    def upload(self, content: bytes, path: str, *, mode: int = 0o644, owner: str = "root", group: str = "root") -> bool:
        """The file holds `content` with that mode and owner, replaced atomically. True if anything changed."""
        ...

    def download(self, path: str) -> FileStat | None:
        """The file's content and attributes, or None when there is no such file."""
        ...

    def remove(self, path: str) -> bool:
        """There is no file at `path`. True if there was one."""
        ...

    def facts(self) -> HostFacts:
        """What the host is. Safe to repeat."""
        ...

    def reboot_and_wait(self, *, timeout_s: float = 600.0) -> str:
        """The host runs a new boot (another boot id), which is returned."""
        ...

    def wait_until_up(self, *, timeout_s: float = 600.0, check: Callable[[], None] | None = None) -> None:
        """The host accepts a verified, authenticated SSH connection. `check` is called between two attempts."""
        ...

    def close(self) -> None:
        """The connection is closed. Safe to repeat."""
        ...
