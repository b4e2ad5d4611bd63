"""Every error Levier raises on purpose, classified by *did it happen?*

::

    LevierError
    ├── InvalidRequest          the caller asked for something that cannot be; nothing was touched
    ├── NotFound                the named thing does not exist; nothing was touched
    ├── Conflict                the thing is held or changed by someone else; nothing was touched
    ├── LeaseLost               this worker was fenced off: another one took over; stop at once
    ├── Cancelled               somebody wants the operation stopped: left off at a safe point, to be undone
    ├── IncompatibleVersion     the operation was begun by code this version cannot continue
    ├── UndoFailed              an undo could not finish; a person must decide
    ├── Irreversible            the step cannot be undone: forward retry or hold; nothing was touched
    ├── StoreUnavailable        the database cannot be reached or written: nothing may be done that cannot be logged
    └── DriverError             talking to hardware or to a host
        ├── Unreachable         never delivered: safe to repeat
        ├── OutcomeUnknown      delivered, unanswered: read the state before anything is repeated
        ├── Rejected            delivered and refused: it did not happen, repeating it as it is will not help
        │   └── Busy            refused for now (node busy, no session slot): it did not happen, repeat later
        ├── AuthFailed          the credentials were refused: never repeated, accounts get locked
        ├── Unsupported         the device cannot do this at all
        └── MalformedReply      the answer cannot be understood: read the state before anything is repeated
"""

from __future__ import annotations


class LevierError(Exception):
    """Root of all errors raised on purpose.

    `hint` is the way out, in the imperative, shown to the operator below the cause.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class InvalidRequest(LevierError):
    """The request cannot be carried out as it is; nothing was touched."""


class NotFound(LevierError):
    """The named thing does not exist; nothing was touched."""


class Conflict(LevierError):
    """Another operation or an earlier change stands in the way; nothing was touched."""


class LeaseLost(LevierError):
    """This worker's lease generation is no longer current: it may write and command nothing more."""


class Cancelled(LevierError):
    """The step was left off at a safe point, because somebody wants the operation stopped; it is undone next."""


class IncompatibleVersion(LevierError):
    """The operation was begun by a code version that this one cannot continue."""


class UndoFailed(LevierError):
    """An undo could not finish; the operation needs an operator.

    `undo_error` is why the undo failed; `cause` is why it was undone at all (empty: nothing had failed).
    """

    def __init__(
        self, message: str, *, hint: str = "", undo_error: BaseException | None = None, cause: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.undo_error = undo_error
        self.cause = cause


class Irreversible(LevierError):
    """The step has no way back: the choice is a forward retry or to hold; nothing was touched."""


class StoreUnavailable(LevierError):
    """The database cannot be reached or written; the last write may or may not be in it: read before going on.

    `lasting`: waiting does not help, as with a missing schema.
    """

    def __init__(self, message: str, *, hint: str = "", lasting: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.lasting = lasting


class DriverError(LevierError):
    """Root of what can go wrong while talking to hardware or to a host."""


class Unreachable(DriverError):
    """The request never reached the device: it did not happen and may be repeated."""


class OutcomeUnknown(DriverError):
    """The request was sent and not answered: read the state before repeating anything."""


class Rejected(DriverError):
    """The device answered with a refusal: it did not happen, and the same request will not do better."""


class Busy(Rejected):
    """The device refuses for now (node busy, no free session): it did not happen, repeat later."""


class AuthFailed(DriverError):
    """The device refused the credentials: never repeated, because accounts get locked."""


class Unsupported(DriverError):
    """The device has no such capability."""


class MalformedReply(DriverError):
    """The device's answer cannot be understood: read the state before repeating anything."""
