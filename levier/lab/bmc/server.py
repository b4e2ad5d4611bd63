"""The network side of one BMC: datagrams in, datagrams out, every command into the ledger."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

from levier.lab.bmc import rakp
from levier.lab.bmc.app_commands import APP_COMMANDS
from levier.lab.bmc.chassis_commands import CHASSIS_COMMANDS
from levier.lab.bmc.device import BmcDevice
from levier.lab.bmc.dispatch import Call, Code, Outcome, run_command
from levier.lab.bmc.misbehaviour import Answer, Misbehaviour, command_of
from levier.lab.bmc.rakp import Handshake, Status
from levier.lab.bmc.sessions import Peer, Session, SessionTable
from levier.lab.bmc.storage_commands import STORAGE_COMMANDS
from levier.lab.bmc.wire import (
    MalformedPacket,
    Packet,
    PayloadType,
    Request,
    build_v2,
    build_v15,
    parse_packet,
    parse_request,
)
from levier.lab.faults import BmcCommand, NodeFaults
from levier.lab.ledger import EventKind, Record

_log = logging.getLogger(__name__)
_SWEEP_S = 0.5
COMMANDS = {**APP_COMMANDS, **CHASSIS_COMMANDS, **STORAGE_COMMANDS}


class BmcServer(asyncio.DatagramProtocol):
    """One BMC on one UDP address. `users` maps user names to passwords; `faults` is what goes wrong with it."""

    def __init__(self, *, device: BmcDevice, users: Mapping[str, str], record: Record, faults: NodeFaults) -> None:
        self._device = device
        self._users = {name.encode(): password.encode() for name, password in users.items()}
        self._record = record
        self._faults = faults
        self._misbehaviour = Misbehaviour(faults)
        self._table = SessionTable()
        self._transport: asyncio.DatagramTransport | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    # --- asyncio ---------------------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open: silent sessions are looked for from now on."""
        self._transport = cast(asyncio.DatagramTransport, transport)
        self._sweep()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        if self._sweeper:
            self._sweeper.cancel()

    def datagram_received(self, data: bytes, addr: Peer) -> None:
        """The datagram was answered, or dropped when it is no valid one, as a BMC does."""
        if self._misbehaviour.dead():
            self._table.forget()
            return
        try:
            answer = self._answer(data, addr)
        except MalformedPacket as error:
            _log.debug("dropped a datagram from %s: %s", addr, error)
            return
        except Exception:  # noqa: BLE001 - a defect must cost one datagram, not the BMCs of the whole rack
            _log.exception("defect while answering a datagram from %s", addr)
            return
        if answer is not None:
            self._misbehaviour.deliver(answer, partial(self._send, addr))

    def _send(self, addr: Peer, datagram: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(datagram, addr)

    def error_received(self, exc: Exception) -> None:
        """A client went away before its answer: nothing to do."""
        _log.debug("socket error: %s", exc)

    def _sweep(self) -> None:
        for pending in self._table.abandon():
            if pending.handshake is not None:
                # A client that finds our proof wrong (section 13.21) just stops: it was given another password.
                self._auth_failed(
                    pending.peer,
                    pending.username,
                    "client gave up after RAKP 2: another password, or our answer was lost",
                )
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    # --- packets ---------------------------------------------------------------------------------------------------
    def _answer(self, datagram: bytes, peer: Peer) -> Answer | None:
        packet = parse_packet(datagram)
        steps: dict[int, Callable[[bytes, Peer], bytes | None]] = {
            PayloadType.OPEN_REQUEST: self._open,
            PayloadType.RAKP1: self._rakp1,
            PayloadType.RAKP3: self._rakp3,
        }
        handshake_step = steps.get(packet.payload_type)
        if packet.v2 and handshake_step is not None:
            reply = handshake_step(packet.payload, peer)
            return None if reply is None else Answer(reply, BmcCommand.LOGIN)
        if packet.payload_type != PayloadType.IPMI:
            raise MalformedPacket("payload type not supported")
        if packet.session_id == 0:
            return self._outside_session(packet, peer)
        return self._inside_session(packet.session_id, datagram, peer)

    def _outside_session(self, packet: Packet, peer: Peer) -> Answer:
        request = parse_request(packet.payload)
        message = self._run(request, peer=peer, session=None)
        reply = build_v2(message, kind=PayloadType.IPMI) if packet.v2 else build_v15(message)
        return Answer(reply, BmcCommand.LOGIN)

    def _inside_session(self, session_id: int, datagram: bytes, peer: Peer) -> Answer:
        session = self._table.sessions.get(session_id)
        if session is None:
            raise MalformedPacket("no such session")
        packet = parse_packet(datagram, authcode_size=session.suite.authcode_size)
        request = parse_request(session.open(packet))
        self._table.touch(session)
        answer = session.seal(self._run(request, peer=peer, session=session))
        if session.view.closing:
            self._table.sessions.pop(session_id, None)
        return Answer(answer, command_of(request.netfn, request.command))

    def _run(self, request: Request, *, peer: Peer, session: Session | None) -> bytes:
        call = Call(
            device=self._device,
            session=session.view if session else None,
            active_sessions=len(self._table.sessions),
            end_all_sessions=self._table.sessions.clear,
            faults=self._faults,
        )
        outcome = self._carry_out(request, call)
        self._record(
            EventKind.BMC_COMMAND,
            netfn=request.netfn,
            command=request.command,
            name=outcome.name,
            completion_code=int(outcome.code),
            requester=f"{peer[0]}:{peer[1]}",
            session=f"{session.view.session_id:08x}" if session else None,
            **call.notes,
        )
        return request.response(outcome.code, outcome.data)

    def _carry_out(self, request: Request, call: Call) -> Outcome:
        try:
            return run_command(COMMANDS, netfn=request.netfn, command=request.command, data=request.data, call=call)
        except Exception:  # noqa: BLE001 - a defect in one command answers 0xFF and stays in the ledger
            _log.exception("defect in command %02x/%02x", request.netfn, request.command)
            return Outcome("defect", Code.UNSPECIFIED)

    # --- handshake -------------------------------------------------------------------------------------------------
    def _open(self, payload: bytes, peer: Peer) -> bytes:
        request = rakp.parse_open(payload)
        if request.suite is None:
            return self._refuse(PayloadType.OPEN_RESPONSE, request.tag, Status.NO_SUITE_MATCH, request.console_id)
        exhausted = self._misbehaviour.exhausted()
        pending = None if exhausted else self._table.begin(request, suite=request.suite, peer=peer)
        if pending is None:
            return self._refuse(PayloadType.OPEN_RESPONSE, request.tag, Status.NO_RESOURCES, request.console_id)
        body = rakp.open_response(request, suite=request.suite, managed_id=pending.managed_id)
        return build_v2(body, kind=PayloadType.OPEN_RESPONSE)

    def _rakp1(self, payload: bytes, peer: Peer) -> bytes:
        message = rakp.parse_rakp1(payload)
        pending = self._table.pending.get(message.managed_id)
        if pending is None:
            return self._refuse(PayloadType.RAKP2, message.tag, Status.INVALID_SESSION, bytes(4))
        self._table.touch(pending)
        pending.username = message.username.decode(errors="replace")
        password = self._users.get(message.username)
        if password is None:
            del self._table.pending[message.managed_id]
            self._auth_failed(peer, pending.username, "no such user")
            return self._refuse(PayloadType.RAKP2, message.tag, Status.UNKNOWN_NAME, pending.request.console_id)
        pending.handshake = Handshake(
            suite=pending.suite,
            console_id=pending.request.console_id,
            managed_id=pending.managed_id,
            rakp1=message,
            password=password,
            guid=self._device.guid,
            bmc_random=rakp.new_random(),
        )
        return build_v2(pending.handshake.rakp2(), kind=PayloadType.RAKP2)

    def _rakp3(self, payload: bytes, peer: Peer) -> bytes | None:
        message = rakp.parse_rakp3(payload)
        session = self._table.sessions.get(int.from_bytes(message.managed_id, "little"))
        if session is not None and session.established_by == payload:
            return build_v2(session.handshake.rakp4(message.tag), kind=PayloadType.RAKP4)
        pending = self._table.pending.get(message.managed_id)
        if pending is None or pending.handshake is None:
            return self._refuse(PayloadType.RAKP4, message.tag, Status.INVALID_SESSION, bytes(4))
        if message.status != Status.OK:
            # An error in RAKP 3 ends the handshake without an answer (13.22).
            del self._table.pending[pending.managed_id]
            self._auth_failed(peer, pending.username, f"client refused our proof (status {message.status:#04x})")
            return None
        if not pending.handshake.proves(message):
            del self._table.pending[pending.managed_id]
            self._auth_failed(peer, pending.username, "wrong proof in RAKP 3: other password")
            return self._refuse(
                PayloadType.RAKP4, message.tag, Status.WRONG_INTEGRITY_CHECK, pending.request.console_id
            )
        self._table.establish(pending, pending.handshake, rakp3=payload)
        self._record(
            EventKind.BMC_LOGIN,
            username=pending.username,
            cipher_suite=pending.suite.number,
            requester=f"{peer[0]}:{peer[1]}",
        )
        return build_v2(pending.handshake.rakp4(message.tag), kind=PayloadType.RAKP4)

    def _auth_failed(self, peer: Peer, username: str, reason: str) -> None:
        self._record(EventKind.BMC_AUTH_FAILED, username=username, reason=reason, requester=f"{peer[0]}:{peer[1]}")

    @staticmethod
    def _refuse(kind: PayloadType, tag: int, status: Status, console_id: bytes) -> bytes:
        return build_v2(rakp.refusal(tag=tag, status=status, console_id=console_id), kind=kind)
