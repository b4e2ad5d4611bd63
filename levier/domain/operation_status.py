"""An operation as it was ordered, and where it, its steps and its targets stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from levier.domain.errors import LeaseLost
from levier.domain.operation_log import SETTLED, JsonMap, OperationState, StepPhase


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step on one target; `wave` counts from 0 (the canary). In a staged plan targets come back in later waves."""

    step: str
    target: str
    wave: int = 0


@dataclass(frozen=True, slots=True)
class Operation:
    """What was ordered. It never changes; everything that does is in the log."""

    id: str
    kind: str
    """Name of the flow: `expand`, `inspect` …"""
    targets: tuple[str, ...]
    """Nodes."""
    plan: tuple[PlannedStep, ...]
    """In the order of execution. A target here that is no node (`site`) is a step of the whole operation."""
    created: datetime
    code_version: str
    parameters: JsonMap = field(default_factory=dict)
    requested_by: str = ""
    key: str = ""
    """What ordered it, such as a flow-run id: the same key never makes a second operation. Empty: no such key."""

    @property
    def waves(self) -> Mapping[int, tuple[str, ...]]:
        """Wave number → its targets, both in the order of the plan."""
        found: dict[int, dict[str, None]] = {}
        for planned in self.plan:
            found.setdefault(planned.wave, {})[planned.target] = None
        return {number: tuple(found[number]) for number in sorted(found)}

    @property
    def staged(self) -> bool:
        """Targets come back in later waves: each wave is a stage, and what it did is what the next one builds on."""
        return sum(len(targets) for targets in self.waves.values()) > len({p.target for p in self.plan})

    @property
    def pillars(self) -> frozenset[str]:
        """The targets that all others build on: in a staged plan, when one of these falls, all of it is undone."""
        return frozenset(self.parameters.get("pillars", ()))


@dataclass(frozen=True, slots=True)
class Fence:
    """A worker's right to act on an operation; dead as soon as another one took over."""

    operation: str
    generation: int
    worker: str

    def lost(self) -> LeaseLost:
        """The error for a worker whose fence is dead."""
        return LeaseLost(
            f"operation {self.operation} was taken over by another worker: generation {self.generation} is over",
            hint=f"nothing to do here; see levier operation show {self.operation}",
        )


@dataclass(frozen=True, slots=True)
class Lease:
    """A node's lock. `generation` only ever grows, also across holders."""

    node: str
    operation: str
    generation: int
    worker: str
    acquired: datetime
    expires: datetime


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """An error as the log keeps it."""

    error: str
    """Class name, as in levier.domain.errors."""
    message: str
    hint: str = ""

    @classmethod
    def of(cls, error: BaseException) -> ErrorRecord:
        """The record of `error`; an exception that is no LevierError is named as the defect it is."""
        message = str(error) or "no message"
        return cls(error=type(error).__name__, message=message, hint=getattr(error, "hint", ""))

    @classmethod
    def from_data(cls, data: JsonMap) -> ErrorRecord | None:
        """The record stored in an event's data, if there is one."""
        stored = data.get("error")
        return cls(**stored) if isinstance(stored, Mapping) else None

    def as_data(self) -> JsonMap:
        """What goes into an event's data."""
        return {"error": {"error": self.error, "message": self.message, "hint": self.hint}}


class StepState(StrEnum):
    """How the forward direction of a step stands."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNKNOWN = "unknown"
    SKIPPED = "skipped"


class UndoState(StrEnum):
    """How the undo of a step stands."""

    NONE = "none"
    RUNNING = "running"
    UNDONE = "undone"
    FAILED = "failed"
    ABANDONED = "abandoned"


@dataclass(frozen=True, slots=True)
class StepStatus:
    """Where one step on one target stands: a fold over its events."""

    step: str
    target: str
    state: StepState = StepState.PENDING
    undo: UndoState = UndoState.NONE
    attempts: int = 0
    undo_attempts: int = 0
    acted: bool = False
    """A side effect may have happened in this round (since the last `undone`)."""
    started: datetime | None = None
    finished: datetime | None = None
    before: JsonMap | None = None
    outputs: JsonMap | None = None
    error: ErrorRecord | None = None
    undo_error: ErrorRecord | None = None
    skipped: JsonMap | None = None
    """`who` took it, or its undo, out of the plan, and the `reason`."""
    first_seq: int = 0
    """Where in the log this round began; 0: it did not."""
    last_seq: int = 0
    wave: int = 0

    @property
    def duration_s(self) -> float | None:
        """Seconds from the first start to the (last) outcome, retries included; None while the outcome is open."""
        if self.started is None or self.finished is None:
            return None
        return (self.finished - self.started).total_seconds()

    @property
    def phase(self) -> StepPhase:
        """What the transition table goes by."""
        by_undo = {
            UndoState.RUNNING: StepPhase.UNDOING,
            UndoState.UNDONE: StepPhase.UNDONE,
            UndoState.FAILED: StepPhase.UNDO_FAILED,
            UndoState.ABANDONED: StepPhase.ABANDONED,
        }
        if self.undo in by_undo:
            return by_undo[self.undo]
        if self.state is StepState.FAILED and not self.acted:
            return StepPhase.BLOCKED
        return StepPhase(self.state.value)

    @property
    def stands(self) -> bool:
        """It acted, or may have, and is not undone."""
        return self.acted and self.undo is not UndoState.UNDONE

    @property
    def done(self) -> bool:
        """Nothing is left to do forward."""
        return self.undo is UndoState.NONE and self.state in (StepState.SUCCEEDED, StepState.SKIPPED)


class TargetOutcome(StrEnum):
    """How an operation stands on one target. Once the operation is settled: ready, undone, failed, needs_operator."""

    PENDING = "pending"
    RUNNING = "running"
    READY = "ready"
    """Every planned step is done."""
    FAILED = "failed"
    """A step failed; it is neither repeated nor undone yet, or is held (irreversible)."""
    UNWINDING = "unwinding"
    UNDONE = "undone"
    """What was done is undone: nothing stands."""
    NEEDS_OPERATOR = "needs_operator"
    """The last attempt to undo a step failed."""


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """One target of an operation: its outcome and, where it is not ready, why."""

    target: str
    outcome: TargetOutcome
    error: str | None = None
    """`step: message` of the step that failed first."""
    observed: JsonMap | None = None
    """What was seen of it after the last undo, and `at` what time; None: nobody has looked since it moved."""


@dataclass(frozen=True, slots=True)
class OperationStatus:
    """Where an operation stands: a fold over its log."""

    operation: Operation
    state: OperationState
    state_detail: JsonMap
    """Of the event that led to `state`; `reason` says why."""
    state_seq: int
    started: datetime | None
    finished: datetime | None
    steps: tuple[StepStatus, ...]
    """In the order of the plan."""
    targets: Mapping[str, TargetStatus]
    """For each target of the plan."""
    cancel_requested: JsonMap | None
    """`who` and `reason` of a request not answered yet."""
    takeovers: int
    """Times a worker began since the last progress: a step concluded well, or a change of state."""
    run: str
    """Flow-run id of the last worker that began."""
    worker: str
    last_seq: int
    worked_seq: int = 0
    """Of the last event that a worker wrote: orders and requests leave it as it is."""
    active: OperationState = OperationState.PLANNED
    """The last state in which somebody worked on it, or was to."""
    expires: datetime | None = None
    """Until when the last worker counts as alive; None: no worker has begun."""

    @property
    def id(self) -> str:
        """The operation's id."""
        return self.operation.id

    @property
    def kind(self) -> str:
        """The operation's kind."""
        return self.operation.kind

    @property
    def stands(self) -> tuple[StepStatus, ...]:
        """What acted and is not undone, in the order in which it began."""
        return tuple(sorted((s for s in self.steps if s.stands), key=lambda s: s.first_seq))

    @property
    def error(self) -> str | None:
        """Why it is not well: the reason of its state, else the first failure of a target; None when there is none."""
        reason = self.state_detail.get("reason")
        if isinstance(reason, str) and reason and self.state in SETTLED:
            return reason
        failures = [f"{t.target}: {t.error}" for t in self.targets.values() if t.error]
        return "; ".join(failures) or None

    @property
    def goes_back(self) -> bool:
        """Resumed, it goes on with its unwinding, not forward: it needs an operator and was unwinding as a whole."""
        return self.state is OperationState.NEEDS_OPERATOR and self.active is OperationState.UNWINDING

    def step(self, step: str, target: str) -> StepStatus:
        """The status of `step` on `target`; KeyError when the plan has no such step."""
        for status in self.steps:
            if (status.step, status.target) == (step, target):
                return status
        raise KeyError((step, target))
