"""The only module that touches pyghmi: an authenticated IPMI session, and the decoding of sensor records.

pyghmi's usual session shares sockets, a reader thread and one event loop among all BMCs of a process; its packets,
time-outs and exceptions are handled by whichever thread happens to pump. `simplesession` has the same framing and
cryptography with a socket of its own. It has no timers, so `_WireSession` brings them (docs/decisions/0030).
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyghmi.exceptions
import pyghmi.ipmi.private.constants as ipmi_constants
from pyghmi.constants import Health
from pyghmi.ipmi import sdr
from pyghmi.ipmi.private import simplesession

from levier.domain import errors
from levier.domain.bmc import BmcAddress, Credentials
from levier.domain.permit import Permit

from . import completion
from .login_errors import NO_RESOURCES, login_error
from .messages import NETFN_APP, Delivery, Message, Reply
from .options import IpmiOptions

_log = logging.getLogger(__name__)

_PRIVILEGE = {"operator": 3, "administrator": 4}
_UNDECODABLE = (struct.error, IndexError, KeyError, ValueError, TypeError)
_RMCP_CLASS_IPMI = 0x07
_SHORTEST_PACKET = 16
_LOGIN_PATIENCE = 5
"""A login is five questions, each of which may take its time."""
_SENDINGS = 5
"""How often a question is sent at least within its time: at 30 % loss, 1 of 400 stays unanswered."""
_LOGOUT_TIMEOUT_S = 1.0
_LARGEST_TAG = 200
"""Tags are one byte; a login takes three."""


class _NoAnswerError(Exception):
    """The deadline of a request passed."""


class _WireSession(simplesession.Session):  # type: ignore[misc]  # pyghmi has no types
    """simplesession with deadlines, resends, and packet errors that name their BMC."""

    socket: Any
    logged: int
    localsid: int
    rmcptag: int

    # pyghmi swallows a RAKP 4 refusal and logs in again while this is not 0: an account gets locked that way.
    logontries = property(lambda self: 0, lambda self, value: None)

    def __init__(self, address: BmcAddress, credentials: Credentials, options: IpmiOptions, permit: Permit) -> None:
        self._address = address
        self._options = options
        self._permit = permit
        self._answer_s = options.timeout_s
        self._login_began = time.monotonic()
        self._heard = False
        self._resend_at = 0.0
        self._resend_s = min(options.resend_s, options.timeout_s / _SENDINGS)
        try:
            super().__init__(
                bmc=address.host,
                userid=credentials.username.encode(),
                password=credentials.password.encode(),
                port=address.port,
                privlevel=_PRIVILEGE[options.privilege],
            )
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """The BMC was told to end the session, if there is one, and the socket is closed. Never raises."""
        if self.socket is None:
            return
        self._answer_s = min(self._options.timeout_s, _LOGOUT_TIMEOUT_S)
        self.incommand = False
        self.lastpayload = None
        self.pendingpayloads.clear()
        try:
            if self.logged:
                self.raw_command(netfn=NETFN_APP, command=0x3C, data=struct.pack("<I", self.sessionid))
        except (_NoAnswerError, OSError, pyghmi.exceptions.PyghmiException, errors.LevierError) as error:
            _log.warning("BMC %s did not confirm the logout, its session slot may stay taken: %r", self._address, error)
        finally:
            self.logged = 0
            self.socket.close()
            self.socket = None

    # ---- called by pyghmi ----------------------------------------------------------------------------------------

    def logout(self, sessionok: bool = True) -> dict[str, bool]:
        """Nothing happens here: `discard` logs out, exactly once."""
        return {"success": True}

    def _initsession(self) -> None:
        # Tags and session ids of a login begun anew must not be those of the one before: its answers may be on the way.
        begun = (self.localsid, self.rmcptag % _LARGEST_TAG) if hasattr(self, "rmcptag") else None
        super()._initsession()
        if begun:
            self.localsid, self.rmcptag = begun
        if self._options.cipher_suite == 3:
            self.attemptedhash = 1
        # A login begun anew counts its packets from 0; pyghmi keeps the old number and would drop them.
        with contextlib.suppress(AttributeError):
            del self.remseqnumber

    def _get_session_challenge(self) -> None:
        raise errors.Unsupported(
            f"BMC {self._address} speaks IPMI 1.5 only, Levier needs IPMI 2.0 (RMCP+)",
            hint="Enable IPMI 2.0 in the BMC's settings or update its firmware.",
        )

    def _got_rmcp_response(self, data: bytearray) -> Any:
        self._learn_patience(data)
        if data[1] in NO_RESOURCES:
            self.attemptedhash = 1  # else pyghmi asks for a slot again at once, with the other cipher suite
        suite = (data[16], data[24], data[32]) if len(data) >= 36 and data[1] == 0 else None
        if suite == (1, 1, 1) and self.attemptedhash == 256 and self._options.cipher_suite is None:
            # Offered SHA-256, silently answered with SHA-1 (suite 3): pyghmi's own server does, and VirtualBMC.
            self.attemptedhash = 1
            self.currhashlib = simplesession.hashlib.sha1
            self.currhashlen = 12
        return super()._got_rmcp_response(data)

    def _got_rakp2(self, data: bytearray) -> Any:
        self._learn_patience(data)
        return super()._got_rakp2(data)

    def _got_rakp4(self, data: bytearray) -> Any:
        self._learn_patience(data)
        return super()._got_rakp4(data)

    def _learn_patience(self, data: bytearray) -> None:
        """An answer to an earlier packet of this login shows that the BMC is slower than the resends.

        Each resend of a login makes the answers on their way worthless: without more patience it would never end.
        """
        if data[0] != self.rmcptag and self.sessioncontext not in (None, "ESTABLISHED"):
            self._resend_s = min(2 * self._resend_s, self._options.timeout_s)
            self._resend_at = time.monotonic() + self._resend_s

    def wait_for_rsp(self, timeout: float | None = None, callout: bool = True) -> None:
        patience = _LOGIN_PATIENCE if self._heard else 1
        self._pump(self._login_began + patience * self._options.timeout_s, resend=True)

    def awaitresponse(self, retry: bool) -> None:
        deadline = time.monotonic() + self._answer_s
        while self.lastresponse is None and self.logged:
            self._pump(deadline, resend=retry)

    def _xmit_packet(self, *args: Any, **kwargs: Any) -> None:
        self._permit()  # here, where also resends and the logout come by
        super()._xmit_packet(*args, **kwargs)
        self._resend_at = time.monotonic() + min(self._resend_s, self._answer_s / 2)

    # ---- timers ----------------------------------------------------------------------------------------------------

    def _pump(self, deadline: float, *, resend: bool) -> None:
        """One packet was handled, or one request resent, or time went by. Raises _NoAnswerError past the deadline."""
        now = time.monotonic()
        if now >= deadline:
            raise _NoAnswerError
        wake = min(deadline, self._resend_at) if resend else deadline
        poller = select.poll()  # not select(): that ends at file descriptor 1023
        poller.register(self.socket, select.POLLIN)
        if poller.poll(max(1.0, (wake - now) * 1000)):
            self._receive()
        elif resend and time.monotonic() >= self._resend_at:
            self.timeout = 0.0  # keeps pyghmi from counting; the deadline above counts
            self._timedout()

    def _receive(self) -> None:
        """All waiting packets of this BMC were handled. Raises MalformedReply for one that cannot be decoded."""
        while True:
            try:
                packet, peer = self.socket.recvfrom(3000, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            if len(packet) < _SHORTEST_PACKET or packet[0] != 6 or packet[3] != _RMCP_CLASS_IPMI:
                continue
            if peer[:2] not in [known[:2] for known in self.allsockaddrs]:
                continue
            self._heard = True
            try:
                self._handle_ipmi_packet(bytearray(packet), sockaddr=peer)
            except _UNDECODABLE as error:
                raise errors.MalformedReply(
                    f"BMC {self._address} sent a packet that cannot be decoded: {error!r}",
                    hint="Try the option cipher_suite: 3; if it stays so, update the BMC's firmware.",
                ) from error


class IpmiSession:
    """One authenticated session. Used by one thread, then closed; a session that went silent is not used again."""

    def __init__(self, address: BmcAddress, credentials: Credentials, options: IpmiOptions, permit: Permit) -> None:
        """Logged in. Raises Unreachable, AuthFailed (tried once), Busy, Unsupported or MalformedReply; LeaseLost."""
        self.address = address
        try:
            socket.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)  # pyghmi words a failure vaguely
            self._wire = _WireSession(address, credentials, options, permit)
        except _NoAnswerError as error:
            raise errors.Unreachable(
                f"BMC {address} does not answer IPMI on UDP port {address.port} within {options.timeout_s:g} s",
                hint="Check address, port, cabling, and that IPMI over LAN is enabled; a slow BMC needs timeout_s.",
            ) from error
        except OSError as error:
            raise errors.Unreachable(
                f"BMC {address} cannot be reached on UDP port {address.port}: {error}",
                hint="Check the BMC's address in the site file, name resolution and the route to it.",
            ) from error
        except pyghmi.exceptions.PyghmiException as error:
            raise login_error(
                address, str(error), ipmi_constants.rmcp_codes, ipmi_constants.ipmi_completion_codes
            ) from error

    def close(self) -> None:
        """Logged out, the socket closed. Safe to repeat, never raises."""
        self._wire.discard()

    def exchange(self, message: Message) -> Reply:
        """The BMC's reply, whatever its completion code. Raises as `Delivery` says when there is none."""
        resend = message.delivery is not Delivery.ONCE
        try:
            reply = self._wire.raw_command(
                netfn=message.netfn, command=message.command, data=message.data, retry=resend, rslun=message.lun
            )
        except (_NoAnswerError, OSError, pyghmi.exceptions.PyghmiException) as error:
            raise self._silence(message) from error
        if reply is None:
            raise self._silence(message)
        return Reply(code=int(reply["code"]), data=bytes(reply["data"]))

    def ask(self, message: Message) -> bytes:
        """The data of a successful reply. Raises the error of its completion code otherwise."""
        return completion.checked(self.address, message, self.exchange(message))

    def _silence(self, message: Message) -> errors.DriverError:
        if message.delivery is Delivery.READ:
            return errors.Unreachable(
                f"BMC {self.address} (UDP port {self.address.port}) stopped answering at '{message.name}'",
                hint="Repeat; if it stays so, check the network for loss and raise timeout_s.",
            )
        return errors.OutcomeUnknown(
            f"BMC {self.address} did not answer '{message.name}': it may or may not have happened",
            hint="Read the state before repeating anything.",
        )


_HEALTH = ((Health.Failed, "failed"), (Health.Critical, "critical"), (Health.Warning, "warning"))


@dataclass(frozen=True, slots=True)
class DecodedReading:
    """A sensor's value in its unit, and its health."""

    value: float | None
    health: str


class SensorRecord:
    """A full or compact sensor data record (IPMI 2.0 section 43.1 and 43.2)."""

    def __init__(self, record: bytes) -> None:
        """Decoded. Raises ValueError for a record that pyghmi cannot decode."""
        try:
            self._entry: Any = sdr.SDREntry(bytearray(record), ipmi_constants)
            self.name = str(self._entry.name).strip("\x00 ")
            self.kind = str(self._entry.sensor_type)
            self.unit = str(self._entry.unit_suffix).strip()
            self.owner = int(self._entry.sensor_owner)
            self.number = int(self._entry.sensor_number)
            self.lun = int(self._entry.sensor_lun)
        except (*_UNDECODABLE, AttributeError, NotImplementedError) as error:
            raise ValueError(f"sensor record {record.hex()}: {error!r}") from error

    def decode(self, reading: bytes, factors: Callable[[int, int], bytes]) -> DecodedReading:
        """The reading in units. `factors(sensor, raw)` fetches the factors of a non-linear sensor (section 35.5).

        Raises ValueError when the reading makes no sense for this sensor.
        """
        padded = bytearray(reading.ljust(4, b"\x00"))
        try:
            decoded = self._entry.decode_sensor_reading(_FactorSource(factors), padded)
        except (*_UNDECODABLE, AttributeError, ArithmeticError, NotImplementedError) as error:
            raise ValueError(f"sensor {self.name}, reading {reading.hex()}: {error!r}") from error
        if decoded.unavailable:
            return DecodedReading(None, "unknown")
        health = next((word for bit, word in _HEALTH if decoded.health & bit), "ok")
        return DecodedReading(None if decoded.value is None else float(decoded.value), health)


class _FactorSource:
    """What pyghmi's sensor decoding takes for an IPMI connection: it asks for reading factors only."""

    def __init__(self, factors: Callable[[int, int], bytes]) -> None:
        self._factors = factors

    def raw_command(self, netfn: int, command: int, data: tuple[int, float]) -> dict[str, object]:
        return {"code": 0, "data": bytearray(self._factors(data[0], int(data[1])))}
