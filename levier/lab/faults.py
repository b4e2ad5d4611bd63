"""The faults a virtual rack can produce on demand: which there are, what is armed on a node, when it strikes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Protocol

from levier.domain.bmc import PowerState
from levier.domain.errors import InvalidRequest
from levier.lab.ledger import EventKind, Record
from levier.lab.spec import ChassisKind, NodeSpec


class FaultKind(StrEnum):
    """What can go wrong. The words are those of `levier lab inject`."""

    BMC_REPLIES_LOST = "bmc-replies-lost"
    BMC_REPLIES_LATE = "bmc-replies-late"
    BMC_REPLIES_DUPLICATED = "bmc-replies-duplicated"
    BMC_SESSIONS_EXHAUSTED = "bmc-sessions-exhausted"
    BMC_IGNORES_COMMAND = "bmc-ignores-command"
    POWER_STATE_LIES = "power-state-lies"
    BMC_DIES = "bmc-dies"
    RAMDISK_HANGS = "ramdisk-hangs"
    IMAGE_CORRUPTED = "image-corrupted"
    DISK_FULL = "disk-full"
    SSH_DROPS = "ssh-drops"
    HOST_NEVER_RETURNS = "host-never-returns"
    CLOCK_OFF = "clock-off"


class BmcCommand(StrEnum):
    """The part of a BMC's work that a fault is limited to."""

    LOGIN = "login"
    STATUS = "status"
    POWER = "power"
    BOOT_DEVICE = "boot-device"
    OTHER = "other"


class Stage(StrEnum):
    """The part of the ramdisk's work that a fault is limited to (docs/agent-protocol.md)."""

    CLAIM = "claim"
    WRITE = "write"
    VERIFY = "verify"
    SEED = "seed"


@dataclass(frozen=True, slots=True)
class Traits:
    """What one kind of fault counts as an occurrence, and which of the options of `Fault` it takes."""

    occurrence: str
    options: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    count: int | None = 1
    """How often it strikes unless told otherwise; None: always."""


TRAITS: dict[FaultKind, Traits] = {
    FaultKind.BMC_REPLIES_LOST: Traits("a reply of the BMC", ("command",)),
    # More than the driver's resend (1 s), less than its patience (5 s): two replies to one request, both late.
    FaultKind.BMC_REPLIES_LATE: Traits("a reply of the BMC", ("seconds", "command"), {"seconds": 2.0}),
    FaultKind.BMC_REPLIES_DUPLICATED: Traits("a reply of the BMC", ("command",)),
    FaultKind.BMC_SESSIONS_EXHAUSTED: Traits("a login"),
    FaultKind.BMC_IGNORES_COMMAND: Traits("a command that changes power or boot device", ("command",)),
    FaultKind.POWER_STATE_LIES: Traits("a reading of the power state", ("says",)),
    FaultKind.BMC_DIES: Traits("a packet to the BMC", ("seconds",)),
    FaultKind.RAMDISK_HANGS: Traits("a stage of the ramdisk's work", ("stage",)),
    FaultKind.IMAGE_CORRUPTED: Traits("a download of the image"),
    FaultKind.DISK_FULL: Traits("a write of the image"),
    FaultKind.SSH_DROPS: Traits("a command over SSH"),
    FaultKind.HOST_NEVER_RETURNS: Traits("a boot from the disk"),
    FaultKind.CLOCK_OFF: Traits("a boot", ("seconds",), {"seconds": 86400.0}, count=None),
}

_BMC = frozenset(kind for kind in FaultKind if kind.startswith(("bmc-", "power-")))
CAPABLE: dict[ChassisKind, frozenset[FaultKind]] = {
    ChassisKind.QEMU: _BMC | {FaultKind.HOST_NEVER_RETURNS, FaultKind.CLOCK_OFF},
    ChassisKind.NSPAWN: _BMC
    | {FaultKind.RAMDISK_HANGS, FaultKind.IMAGE_CORRUPTED, FaultKind.DISK_FULL, FaultKind.HOST_NEVER_RETURNS},
    ChassisKind.STUB: frozenset(FaultKind),
}
"""What each chassis can do: the BMC's faults are in the BMC, which all have; the others need a firmware that plays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault as asked for: the first `after` occurrences go well, then it strikes `count` times (None: always).

    Of those occurrences it strikes in `percent` of a hundred, drawn from `seed`: the same seed, the same draws.
    """

    kind: FaultKind
    after: int = 0
    count: int | None = 1
    percent: float = 100.0
    seed: int = 0
    seconds: float | None = None
    says: PowerState | None = None
    """None: the opposite of the truth."""
    stage: Stage | None = None
    """None: any."""
    command: BmcCommand | None = None
    """None: any."""

    @property
    def options(self) -> dict[str, Any]:
        """What was given of the options that only some kinds take."""
        return {name: value for name in _OPTIONS if (value := getattr(self, name)) is not None}

    def to_json(self) -> dict[str, Any]:
        """The fault as JSON types, read back by `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Fault:
        """The fault that `to_json` wrote. Raises ValueError, TypeError or KeyError for anything else."""
        types = {"kind": FaultKind, "says": PowerState, "stage": Stage, "command": BmcCommand}
        known = {one.name for one in fields(cls)}
        given = {name: value for name, value in raw.items() if name in known and value is not None}
        made: dict[str, Any] = {name: types[name](value) if name in types else value for name, value in given.items()}
        return cls(**{**made, "count": raw.get("count")})


_CHANGING = (None, BmcCommand.POWER, BmcCommand.BOOT_DEVICE)
_OPTIONS = ("seconds", "says", "stage", "command")


def checked(fault: Fault) -> Fault:
    """The fault with the defaults of its kind. Raises InvalidRequest for an option or a number that cannot be."""
    traits = TRAITS[fault.kind]
    foreign = sorted(f"--{name}" for name in fault.options.keys() - set(traits.options))
    if foreign:
        takes = ", ".join(f"--{name}" for name in traits.options) or "none of these"
        raise InvalidRequest(f"{fault.kind} does not take {', '.join(foreign)}", hint=f"it takes: {takes}")
    if fault.kind is FaultKind.BMC_IGNORES_COMMAND and fault.command not in _CHANGING:
        raise InvalidRequest(f"{fault.kind} cannot ignore {fault.command}", hint="--command power or boot-device")
    wrong = fault.after < 0 or (fault.count is not None and fault.count < 1) or not 0 < fault.percent <= 100
    if wrong or (fault.seconds is not None and fault.seconds == 0):
        raise InvalidRequest(
            "--after counts from 0, --count from 1, --percent lies above 0 and not above 100, --seconds is not 0"
        )
    missing = {name: value for name, value in traits.defaults.items() if getattr(fault, name) is None}
    return replace(fault, **missing)


def require_capable(nodes: Sequence[NodeSpec], kind: FaultKind) -> None:
    """The chassis of all these nodes can do this fault. Raises InvalidRequest naming one that cannot, and what can."""
    for chassis in sorted({node.chassis for node in nodes}):
        if kind in CAPABLE[chassis]:
            continue
        can = ", ".join(one.value for one in FaultKind if one in CAPABLE[chassis])
        able = [node.name for node in nodes if kind in CAPABLE[node.chassis]]
        others = f"; {', '.join(able[:5])} can do it" if able else ""
        raise InvalidRequest(f"the chassis {chassis} cannot do {kind}", hint=f"it can: {can}{others}")


class FaultSource(Protocol):
    """What a part of a machine asks when something happens that can go wrong."""

    def due(self, kind: FaultKind, **circumstances: str) -> Fault | None:
        """The fault that strikes this occurrence, which is in the ledger then; None when all is well."""
        ...


@dataclass(slots=True)
class _Armed:
    """A fault on a node, and how far it has come."""

    fault: Fault
    chance: random.Random
    seen: int = 0
    struck: int = 0

    def concerns(self, circumstances: Mapping[str, str]) -> bool:
        """Whether this is an occurrence for it at all."""
        limits = {name: value for name, value in self.fault.options.items() if name in ("stage", "command")}
        return all(circumstances.get(name) == value for name, value in limits.items())

    def strikes(self) -> bool:
        """Whether it strikes this occurrence, which is counted."""
        self.seen += 1
        if self.seen <= self.fault.after or self.struck == self.fault.count:
            return False
        hit = self.chance.random() * 100 < self.fault.percent
        self.struck += hit
        return hit


class NodeFaults:
    """The faults that are armed on one node, at most one of each kind. Used from the daemon's event loop only."""

    def __init__(self, *, node: str, record: Record) -> None:
        self._node = node
        self._record = record
        self._armed: dict[FaultKind, _Armed] = {}

    def arm(self, fault: Fault) -> None:
        """The fault is armed and counts from 0; an earlier one of its kind is gone. Safe to repeat."""
        # The node's name belongs to the seed: else a hundred nodes would lose the same packets.
        chance = random.Random(f"{fault.seed}/{self._node}/{fault.kind}")  # noqa: S311 - repeatable on purpose
        self._armed[fault.kind] = _Armed(fault, chance)
        self._record(EventKind.FAULT, event="armed", fault=fault.kind.value, **_terms(fault))

    def heal(self, kind: FaultKind | None = None) -> list[FaultKind]:
        """No fault (of this kind) is armed; those that were are returned. Safe to repeat."""
        healed = [one for one in self._armed if kind in (None, one)]
        for one in healed:
            self._record(EventKind.FAULT, event="healed", fault=one.value, struck=self._armed.pop(one).struck)
        return healed

    def armed(self, kind: FaultKind) -> bool:
        """Whether a fault of this kind is armed, whether or not it has strikes left."""
        return kind in self._armed

    def due(self, kind: FaultKind, **circumstances: str) -> Fault | None:
        """The fault that strikes this occurrence, which is in the ledger then; None when all is well."""
        armed = self._armed.get(kind)
        if armed is None or not armed.concerns(circumstances) or not armed.strikes():
            return None
        detail = {**{name: str(value) for name, value in armed.fault.options.items()}, **circumstances}
        self._record(EventKind.FAULT, event="struck", fault=kind.value, strike=armed.struck, **detail)
        return armed.fault

    def snapshot(self) -> Iterator[dict[str, Any]]:
        """Each armed fault with what it has seen and struck, for `lab faults`."""
        for armed in self._armed.values():
            yield {"node": self._node, **armed.fault.to_json(), "seen": armed.seen, "struck": armed.struck}


def _terms(fault: Fault) -> dict[str, Any]:
    """The fault's terms as far as they are not the usual ones."""
    plain: dict[str, Any] = {"after": fault.after, "count": fault.count or "all", "percent": fault.percent}
    usual = {"after": 0, "percent": 100.0}
    return {name: value for name, value in plain.items() if usual.get(name) != value} | {
        name: value if isinstance(value, float) else str(value) for name, value in fault.options.items()
    }
