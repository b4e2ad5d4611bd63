"""What a netbooting node is given and what its agent reports; the wire form is in docs/agent-protocol.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class BootPurpose(StrEnum):
    """Why a node boots the ramdisk."""

    INSPECT = "inspect"
    DEPLOY = "deploy"


class AgentAction(StrEnum):
    """What the boot service tells a waiting agent to do next."""

    WAIT = "wait"
    WRITE = "write"
    REBOOT = "reboot"
    POWER_OFF = "power-off"
    REFUSE = "refuse"


class AgentStage(StrEnum):
    """Stages an agent reports, in order."""

    WRITE = "write"
    VERIFY = "verify"
    SEED = "seed"
    REBOOT = "reboot"


class ReportState(StrEnum):
    """How a stage is going."""

    STARTED = "started"
    PROGRESS = "progress"
    DONE = "done"
    FAILED = "failed"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageRef(_Frozen):
    """A disk image as the boot service serves it. Digests are lower-case hexadecimal SHA-256."""

    name: str
    sha256: str
    """Digest of the compressed file, as it goes over the wire."""
    size_bytes: int
    """Size of the compressed file."""
    raw_size_bytes: int
    """Size on the disk: the smallest disk this image fits."""


class AgentReport(_Frozen):
    """One report of an agent."""

    stage: AgentStage
    state: ReportState
    detail: str = ""
    bytes_done: int = 0


@dataclass(frozen=True, slots=True)
class DhcpHost:
    """One machine that may get an address from DHCP while its boot entry stands."""

    mac: str
    address: str
    hostname: str


@dataclass(frozen=True, slots=True)
class ProvisioningNetwork:
    """Where netboot is served: interface and address of this side, and the range the network spans."""

    interface: str
    server_address: str
    prefix_length: int
    gateway: str = ""
    dns: tuple[str, ...] = field(default=())
