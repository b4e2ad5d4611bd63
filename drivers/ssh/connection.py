"""One verified, authenticated SSH connection: made, or refused with the reason."""

from __future__ import annotations

import logging
import socket
import threading
from dataclasses import dataclass

import paramiko

from drivers.ssh.keys import describe, parse_private_key, parse_public_line
from drivers.ssh.options import SshOptions
from levier.domain.errors import AuthFailed, InvalidRequest, Unreachable, Unsupported
from levier.domain.ssh import SshTarget

# The library reports every lost connection with a traceback; those that matter come back as our own errors.
_WIRE_LOG = "levier.ssh.wire"
logging.getLogger(_WIRE_LOG).setLevel(logging.CRITICAL)


def name_of(target: SshTarget) -> str:
    """`root@10.77.0.11:22`: the target in messages."""
    return f"{target.username}@{target.host}:{target.port}"


@dataclass(frozen=True, slots=True)
class Identity:
    """The keys of one target, parsed: which host keys are accepted, and what we log in with."""

    accepted: tuple[paramiko.PKey, ...]
    login: paramiko.PKey

    @classmethod
    def of(cls, target: SshTarget) -> Identity:
        """The target's keys are usable. Raises InvalidRequest when one is not, or when no host key is known."""
        if not target.host_keys:
            raise InvalidRequest(
                f"no host key is known for {name_of(target)}",
                hint="Record the host's public key first; Levier accepts none on trust.",
            )
        return cls(tuple(parse_public_line(line) for line in target.host_keys), parse_private_key(target.private_key))


def connect(target: SshTarget, identity: Identity, options: SshOptions) -> paramiko.Transport:
    """A connection to the very host that was meant, logged in as `target.username`; nothing was executed yet.

    Safe to repeat after Unreachable. Raises Unreachable (refused, no route, no answer, closed), AuthFailed (the host
    showed an unexpected host key, or refused our login key) and Unsupported (no algorithm in common). Neither agent
    nor `~/.ssh` is consulted.
    """
    transport = _open_transport(target, options)
    try:
        _exchange_keys(transport, target, identity, options)
        _verify_host_key(transport, target, identity)
        _log_in(transport, target, identity, options)
    except BaseException:
        transport.close()
        raise
    return transport


def _open_transport(target: SshTarget, options: SshOptions) -> paramiko.Transport:
    try:
        sock = socket.create_connection((target.host, target.port), timeout=options.connect_timeout_s)
    except (OSError, UnicodeError) as error:  # UnicodeError: a host name that no encoding fits
        raise Unreachable(
            f"{name_of(target)}: no TCP connection: {error}",
            hint="Check that the host is up, its address and the route to it.",
        ) from error
    # A host that lost its power sends no more packets: without these limits TCP would wait for a quarter of an hour.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(options.dead_peer_timeout_s * 1000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    interval = max(1, int(options.dead_peer_timeout_s / 4))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, interval)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
    # Commands are short exchanges: waiting to fill packets costs 40 ms each.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    transport = paramiko.Transport(sock)
    transport.set_log_channel(_WIRE_LOG)
    transport.banner_timeout = options.handshake_timeout_s
    transport.handshake_timeout = options.handshake_timeout_s
    return transport


def _exchange_keys(transport: paramiko.Transport, target: SshTarget, identity: Identity, options: SshOptions) -> None:
    security = transport.get_security_options()
    known = tuple(name for key in identity.accepted for name in _algorithms(key))
    # The known types come first so that the host shows a key we can compare; the others stay, so that a host with
    # none of them still shows one, which the refusal can name.
    security.key_types = known + tuple(name for name in security.key_types if name not in known)
    settled = threading.Event()
    transport.start_client(event=settled)
    in_time = settled.wait(options.handshake_timeout_s)
    error = transport.get_exception()
    if isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
        raise Unsupported(
            f"{name_of(target)}: no SSH algorithm in common: {error}",
            hint="Bring the host's sshd to a current configuration.",
        ) from error
    if not in_time or not transport.is_active():
        reason = error or ("the connection was closed" if in_time else "no answer in time")
        raise Unreachable(
            f"{name_of(target)}: no SSH handshake: {reason}",
            hint="Check that sshd answers on that port and is not overloaded.",
        ) from error


def _algorithms(key: paramiko.PKey) -> tuple[str, ...]:
    """Signature algorithms for a key type: RSA keys sign with SHA-2 only (RFC 8332)."""
    return ("rsa-sha2-512", "rsa-sha2-256") if key.get_name() == "ssh-rsa" else (key.get_name(),)


def _verify_host_key(transport: paramiko.Transport, target: SshTarget, identity: Identity) -> None:
    offered = transport.get_remote_server_key()
    if offered in identity.accepted:
        return
    raise AuthFailed(
        f"{name_of(target)}: unexpected host key: expected {describe(identity.accepted)}, offered {describe([offered])}"
        "; nothing was sent to it",
        hint="Find out which machine answers at this address. If the host was reinstalled or got a new key on purpose, "
        "record its new public key; otherwise somebody may be in between.",
    )


def _log_in(transport: paramiko.Transport, target: SshTarget, identity: Identity, options: SshOptions) -> None:
    answered = threading.Event()
    try:
        transport.auth_publickey(target.username, identity.login, answered)
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise _closed_during_login(target, error) from error
    in_time = answered.wait(options.handshake_timeout_s)
    if transport.is_authenticated():
        return
    answer = transport.get_exception()
    # A plain "no" leaves neither an exception nor a closed connection: sshd waits for another key.
    if isinstance(answer, paramiko.AuthenticationException) or (in_time and transport.is_active()):
        detail = f": {answer}" if answer else ""
        raise AuthFailed(
            f"{name_of(target)}: the login key {describe([identity.login])} was refused{detail}",
            hint="Check the user name, the host's authorized_keys and sshd's PermitRootLogin.",
        ) from answer
    raise _closed_during_login(target, answer or ("closed" if in_time else "no answer in time"))


def _closed_during_login(target: SshTarget, reason: object) -> Unreachable:
    # A booting host does this (pam_nologin), and so does one that goes down: the key was not judged.
    return Unreachable(
        f"{name_of(target)}: the connection ended during the login: {reason or 'end of file'}",
        hint="Try again when the host has finished booting; its sshd log names the cause.",
    )
