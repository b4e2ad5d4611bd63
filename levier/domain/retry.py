"""One table: error class → how it is retried and which HTTP status it becomes."""

from __future__ import annotations

from dataclasses import dataclass

from levier.domain import errors


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently a step is tried again after one class of error."""

    attempts: int
    """Attempts in all, the first included."""
    delay_s: float
    """Seconds before the second attempt; doubled for each further one, up to `max_delay_s`."""
    max_delay_s: float = 60.0

    def delay_before_s(self, attempt: int) -> float:
        """Seconds to wait before attempt number `attempt` (2, 3, …)."""
        return float(min(self.delay_s * 2 ** (attempt - 2), self.max_delay_s))


NEVER = RetryPolicy(attempts=1, delay_s=0)


@dataclass(frozen=True, slots=True)
class Treatment:
    """What one error class means for the caller: its retry policy and its HTTP status."""

    retry: RetryPolicy
    http_status: int


# Most specific classes first: the first row the error is an instance of counts.
# 60 s budget and "never retry authentication": Ironic's experience, docs/decisions/0003.
TREATMENTS: tuple[tuple[type[errors.LevierError], Treatment], ...] = (
    (errors.InvalidRequest, Treatment(NEVER, 422)),
    (errors.NotFound, Treatment(NEVER, 404)),
    (errors.Conflict, Treatment(NEVER, 409)),
    (errors.LeaseLost, Treatment(NEVER, 409)),
    (errors.Cancelled, Treatment(NEVER, 409)),
    (errors.IncompatibleVersion, Treatment(NEVER, 409)),
    (errors.UndoFailed, Treatment(NEVER, 500)),
    (errors.Irreversible, Treatment(NEVER, 409)),
    # Waited for inside the step (levier.saga.store_patience), so that no attempt is used up: what comes out is final.
    (errors.StoreUnavailable, Treatment(NEVER, 503)),
    (errors.Busy, Treatment(RetryPolicy(attempts=5, delay_s=2, max_delay_s=20), 503)),
    (errors.Rejected, Treatment(NEVER, 502)),
    (errors.AuthFailed, Treatment(NEVER, 502)),
    (errors.Unsupported, Treatment(NEVER, 501)),
    (errors.Unreachable, Treatment(RetryPolicy(attempts=4, delay_s=2, max_delay_s=20), 504)),
    (errors.OutcomeUnknown, Treatment(RetryPolicy(attempts=4, delay_s=2, max_delay_s=20), 504)),
    (errors.MalformedReply, Treatment(RetryPolicy(attempts=3, delay_s=2, max_delay_s=20), 502)),
)

UNEXPECTED = Treatment(NEVER, 500)
"""For an exception that is no LevierError: a defect, which a repeat does not mend."""


def treatment_of(error: BaseException) -> Treatment:
    """The row of the table that covers `error`."""
    return next((t for kind, t in TREATMENTS if isinstance(error, kind)), UNEXPECTED)
