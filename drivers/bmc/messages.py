"""IPMI requests as plain data: what is sent, how often it may be sent, and how long the answer must be."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

NETFN_CHASSIS = 0x00
NETFN_SENSOR = 0x04
NETFN_APP = 0x06
NETFN_STORAGE = 0x0A


class Delivery(Enum):
    """How a request may be delivered, and what its silence means."""

    READ = "read"
    """Changes nothing: resent until answered; unanswered it is Unreachable."""
    REPEATABLE = "repeatable"
    """Changes something to a fixed state: resent until answered; unanswered it is OutcomeUnknown."""
    ONCE = "once"
    """Must not happen twice: sent exactly once; unanswered it is OutcomeUnknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One IPMI request. `name` appears in errors; `reply_size` is the shortest answer that makes sense."""

    name: str
    netfn: int
    command: int
    data: bytes = b""
    delivery: Delivery = Delivery.READ
    reply_size: int = 0
    lun: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """The completion code (0 is success) and the bytes after it."""

    code: int
    data: bytes


CHASSIS_STATUS = Message(name="get chassis status", netfn=NETFN_CHASSIS, command=0x01, reply_size=1)
DEVICE_ID = Message(name="get device id", netfn=NETFN_APP, command=0x01, reply_size=11)


class ChassisAction(Enum):
    """Chassis Control actions, IPMI 2.0 table 28-4."""

    OFF = 0
    ON = 1
    HARD_RESET = 3
    SOFT_OFF = 5


def chassis_control(action: ChassisAction) -> Message:
    """The one request that must never be sent twice by a time-out (IPMI 2.0 section 28.3)."""
    return Message(
        name=f"chassis control {action.name.lower().replace('_', ' ')}",
        netfn=NETFN_CHASSIS,
        command=0x02,
        data=bytes([action.value]),
        delivery=Delivery.ONCE,
    )


def chassis_identify(data: bytes) -> Message:
    """Chassis Identify, IPMI 2.0 section 28.5: interval in seconds, then optionally the force-on byte."""
    return Message(
        name="chassis identify",
        netfn=NETFN_CHASSIS,
        command=0x04,
        data=data,
        delivery=Delivery.REPEATABLE,
    )
