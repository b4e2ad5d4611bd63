"""The driver `ipmi`: a BMC that speaks IPMI 2.0 over LAN."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from levier.domain import errors
from levier.domain.bmc import (
    Bmc,
    BmcAddress,
    BootDevice,
    BootOverride,
    Credentials,
    FruInventory,
    PowerState,
    SensorReading,
)
from levier.domain.permit import Permit, unconditional

from . import boot_flags, completion, fru, sensors
from .gate import gate_of
from .messages import CHASSIS_STATUS, ChassisAction, chassis_control, chassis_identify
from .options import IpmiOptions, parse_options
from .pyghmi_port import IpmiSession

_log = logging.getLogger(__name__)

_LONGEST_NAME = 16
_LONGEST_PASSWORD = 20
_LONGEST_IDENTIFY_S = 255


@dataclass(frozen=True, slots=True)
class _Goal:
    """A power state, the command that leads to it, and what to do when the machine does not follow."""

    state: PowerState
    action: ChassisAction
    hint: str


_ON = _Goal(
    PowerState.ON,
    ChassisAction.ON,
    "Repeat; if it stays off, look at its power supplies, or whether the BMC's reading is right: restart it.",
)
_OFF = _Goal(
    PowerState.OFF,
    ChassisAction.OFF,
    "Repeat; if it stays on, the BMC's reading may be wrong: look at the machine, restart the BMC.",
)
_SOFT_OFF = _Goal(PowerState.OFF, ChassisAction.SOFT_OFF, "The OS ignores the power button: switch off hard instead.")


class IpmiBmc:
    """One BMC. Every call is a session of its own: log in, act, log out; nothing is held between calls.

    Thread-safe; all objects for one address in a process take turns. Never shares anything with a forked child.
    """

    def __init__(
        self,
        address: BmcAddress,
        credentials: Credentials,
        *,
        options: IpmiOptions | None = None,
        permit: Permit = unconditional,
    ) -> None:
        """Ready; the BMC was not touched. Raises InvalidRequest for credentials that IPMI cannot carry."""
        if len(credentials.username.encode()) > _LONGEST_NAME or len(credentials.password.encode()) > _LONGEST_PASSWORD:
            raise errors.InvalidRequest(
                f"BMC {address}: a user name has {_LONGEST_NAME} bytes at most, a password {_LONGEST_PASSWORD}",
                hint="Set a shorter one on the BMC (IPMI 2.0 sections 22.28 and 22.30).",
            )
        self._address = address
        self._credentials = credentials
        self._options = options or IpmiOptions()
        self._permit = permit
        self._gate = gate_of(address)

    @property
    def address(self) -> BmcAddress:
        """Where this BMC listens."""
        return self._address

    def close(self) -> None:
        """Nothing is held open between calls. Safe to repeat."""

    # ---- power ------------------------------------------------------------------------------------------------------

    def power_state(self) -> PowerState:
        """The chassis power now. Safe to repeat. Source: IPMI 2.0 section 28.2."""
        with self._session() as session:
            return _power(session)

    def power_on(self, *, timeout_s: float = 60.0) -> None:
        """The chassis is on; no error if it already was. The command is sent once, then the state is watched.

        Raises OutcomeUnknown when it is not seen on within `timeout_s`, Rejected when the BMC refused.
        """
        self._reach(_ON, timeout_s)

    def power_off(self, *, timeout_s: float = 60.0, believe_off: bool = True) -> None:
        """The chassis is off, at once and hard; no error if it already was. Raises as `power_on` does.

        Without `believe_off` the command is sent, once, although the BMC says off: a reading can be wrong.
        """
        self._reach(_OFF, timeout_s, always=not believe_off)

    def soft_off(self, *, timeout_s: float = 600.0) -> None:
        """The chassis is off after the OS shut down; no error if it already was.

        Raises Rejected when the BMC passed the request on and the machine was still on after `timeout_s`.
        """
        self._reach(_SOFT_OFF, timeout_s)

    def reset(self) -> None:
        """A hard reset was accepted. NOT safe to repeat: OutcomeUnknown asks to observe the host.

        Raises Rejected when the chassis is off. The BMC rests for `settle_after_reset_s` afterwards.
        """
        with self._session() as session:
            if _power(session) is PowerState.OFF:
                raise errors.Rejected(f"BMC {self._address}: the chassis is off, nothing to reset", hint="Power it on.")
            try:
                session.ask(chassis_control(ChassisAction.HARD_RESET))
            finally:
                self._gate.rest(self._options.settle_after_reset_s)

    def _reach(self, goal: _Goal, timeout_s: float, *, always: bool = False) -> None:
        deadline = time.monotonic() + timeout_s
        with self._session() as session:
            if not always and _power(session) is goal.state and _power(session) is goal.state:
                return  # read twice: to leave a machine alone because of one wrong reading costs a whole time-out later
            failure = _send_once(session, goal.action)
        if isinstance(failure, errors.Rejected):
            deadline = 0.0  # refused: one look, since some BMCs refuse a command that is already true
        last = self._watch(goal.state, deadline)
        if last is goal.state:
            return
        raise self._not_reached(goal, failure, last, timeout_s)

    def _watch(self, wanted: PowerState, deadline: float) -> PowerState | errors.DriverError:
        """The state last seen, or the error that hid it; returns early once it is `wanted`."""
        while True:
            last: PowerState | errors.DriverError
            try:
                last = self.power_state()
            except errors.DriverError as error:
                last = error
            left_s = deadline - time.monotonic()
            if last is wanted or isinstance(last, errors.AuthFailed) or left_s <= 0:
                return last
            time.sleep(min(self._options.poll_interval_s, left_s))

    def _not_reached(
        self, goal: _Goal, failure: errors.DriverError | None, last: PowerState | errors.DriverError, timeout_s: float
    ) -> errors.DriverError:
        what = f"BMC {self._address}: '{chassis_control(goal.action).name}'"
        if isinstance(failure, errors.Rejected) and isinstance(last, PowerState):
            return failure
        if isinstance(last, errors.DriverError):
            return errors.OutcomeUnknown(f"{what} was sent, then the state could not be read: {last}", hint=last.hint)
        if failure is not None:
            return errors.OutcomeUnknown(
                f"{what} was not answered ({failure}) and the chassis is {last.value} after {timeout_s:g} s",
                hint=goal.hint,
            )
        kind = errors.Rejected if goal.action is ChassisAction.SOFT_OFF else errors.OutcomeUnknown
        return kind(f"{what} was accepted, but the chassis is {last.value} after {timeout_s:g} s", hint=goal.hint)

    # ---- boot device ------------------------------------------------------------------------------------------------

    def boot_override(self) -> BootOverride:
        """The override now in force; NONE too when the BMC marks its boot flags invalid. Safe to repeat."""
        with self._session() as session:
            return boot_flags.read_boot_flags(self._address, session.ask(boot_flags.GET_BOOT_FLAGS)).in_force

    def set_boot_override(self, override: BootOverride) -> None:
        """The override is in force, read back; a BMC that cannot say is believed, with a warning in the log.

        Safe to repeat. Raises Rejected when the BMC reports something else afterwards.
        """
        with self._session() as session:
            self._keep_flags(session)
            session.ask(boot_flags.set_boot_flags(override))
            none = override.device is BootDevice.NONE
            self._verify_override(session, BootOverride(BootDevice.NONE) if none else override)

    def _keep_flags(self, session: IpmiSession) -> None:
        """The 60 s timer is off, or the BMC (OpenBMC for one) has no such switch."""
        try:
            session.ask(boot_flags.KEEP_FLAGS_PAST_60_S)
        except errors.Busy:
            raise
        except (errors.Rejected, errors.Unsupported) as error:
            _log.info("BMC %s: the 60 s limit of boot flags stays on: %s", self._address, error)

    def _verify_override(self, session: IpmiSession, wanted: BootOverride) -> None:
        try:
            reply = session.ask(boot_flags.GET_BOOT_FLAGS)
        except errors.Busy:
            raise
        except (errors.Rejected, errors.Unsupported) as error:
            _log.warning("BMC %s hides its boot flags (%s): %s is believed", self._address, error, _words(wanted))
            return
        report = boot_flags.read_boot_flags(self._address, reply)
        if report.in_force == wanted:
            return
        if not report.valid and report.override.device is wanted.device:
            # OpenIPMI's BMC keeps the device and never marks the flags valid.
            _log.warning("BMC %s does not vouch for its boot flags, %s is believed", self._address, _words(wanted))
            return
        raise errors.Rejected(
            f"BMC {self._address} accepted boot override {_words(wanted)} but reports {_words(report.in_force)}",
            hint="Ask for what this BMC can keep, or set it in the machine's firmware.",
        )

    # ---- inventory and light ----------------------------------------------------------------------------------------

    def sensors(self) -> tuple[SensorReading, ...]:
        """All readings of the BMC's own sensors, by name. Safe to repeat. Source: IPMI 2.0 sections 33, 35, 43."""
        with self._session() as session:
            return sensors.read_sensors(session)

    def fru(self) -> FruInventory:
        """The machine's identity from FRU device 0. Safe to repeat. Source: IPMI 2.0 section 34."""
        with self._session() as session:
            return fru.read_identity(session)

    def identify(self, *, on: bool, duration_s: int | None = None) -> None:
        """The LED is lit (for `duration_s` of 1 to 255, or until switched off) or dark. Safe to repeat.

        Raises Unsupported for a longer time, or when the BMC has no indefinite light. Source: section 28.5.
        """
        if on and duration_s is not None and not 1 <= duration_s <= _LONGEST_IDENTIFY_S:
            raise errors.Unsupported(
                f"IPMI can light the LED for 1 to {_LONGEST_IDENTIFY_S} s, not {duration_s}",
                hint="Leave the duration out to light it until it is switched off.",
            )
        with self._session() as session:
            if on and duration_s is not None:
                session.ask(chassis_identify(bytes([duration_s])))
            elif on:
                session.ask(chassis_identify(bytes([0, 1])))
            else:
                _light_off(session)

    @contextmanager
    def _session(self) -> Iterator[IpmiSession]:
        """A session in this BMC's turn, logged out afterwards whatever happened."""
        with self._gate.turn(min_interval_s=self._options.min_interval_s):
            session = IpmiSession(self._address, self._credentials, self._options, self._permit)
            try:
                yield session
            finally:
                session.close()


def _power(session: IpmiSession) -> PowerState:
    return PowerState.ON if session.ask(CHASSIS_STATUS)[0] & 1 else PowerState.OFF


def _send_once(session: IpmiSession, action: ChassisAction) -> errors.DriverError | None:
    """None when the BMC accepted, else why it is not known or was refused. Raises what certainly did not happen."""
    try:
        session.ask(chassis_control(action))
    except (errors.Busy, errors.Unsupported, errors.AuthFailed):
        raise
    except errors.DriverError as error:
        return error
    return None


def _light_off(session: IpmiSession) -> None:
    """Dark; BMCs of IPMI 1.5 descent know the interval byte only."""
    message = chassis_identify(bytes([0, 0]))
    reply = session.exchange(message)
    if reply.code in completion.WRONG_LENGTH:
        session.ask(chassis_identify(bytes([0])))
    else:
        completion.checked(session.address, message, reply)


def _words(override: BootOverride) -> str:
    if override.device is BootDevice.NONE:
        return "none"
    return f"{override.device.value} ({'persistent' if override.persistent else 'once'}, {override.firmware.value})"


def connect(
    address: BmcAddress, credentials: Credentials, *, options: Mapping[str, object], permit: Permit = unconditional
) -> Bmc:
    """A driver for this BMC, which was not touched. Raises InvalidRequest for wrong options or credentials."""
    return IpmiBmc(address, credentials, options=parse_options(options), permit=permit)
