"""Secrets at rest: what is written to the database or to disk is sealed with a key that lies elsewhere."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from levier.domain.errors import InvalidRequest

_VERSION = b"\x01"
_NONCE_BYTES = 12  # NIST SP 800-38D section 8.2.2: random 96-bit nonces, good for 2**32 seals with one key
KEY_BYTES = 32


class Seal(Protocol):
    """Authenticated encryption with a key that the caller never sees."""

    def seal(self, clear: bytes) -> bytes:
        """`clear` in a form that only `open` with the same key reads."""
        ...

    def open(self, sealed: bytes) -> bytes:
        """The clear text. Raises InvalidRequest when it was sealed with another key or changed."""
        ...


class AesGcmSeal:
    """AES-256-GCM with a random nonce for every seal."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise InvalidRequest(f"the sealing key has {len(key)} bytes, not {KEY_BYTES}")
        self._cipher = AESGCM(key)

    def seal(self, clear: bytes) -> bytes:
        """`clear` in a form that only `open` with the same key reads. Two seals of one text differ."""
        nonce = os.urandom(_NONCE_BYTES)
        return _VERSION + nonce + self._cipher.encrypt(nonce, clear, _VERSION)

    def open(self, sealed: bytes) -> bytes:
        """The clear text. Raises InvalidRequest when it was sealed with another key or changed."""
        version, nonce, box = sealed[:1], sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, box, version)
        except (InvalidTag, ValueError) as error:
            raise InvalidRequest(
                "sealed data cannot be opened: it was sealed with another key, or damaged",
                hint="restore the sealing key that belongs to this database",
            ) from error


def key_in_file(path: Path) -> bytes:
    """The key kept in `path`, made there with mode 0600 if there was none. Safe to repeat, and in several processes."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
            _link_unless_there(draft, path)
        finally:
            draft.unlink()
    if path.stat().st_mode & 0o077:
        raise InvalidRequest(f"the sealing key {path} is readable by others", hint=f"chmod 600 {path}")
    return path.read_bytes()


def _link_unless_there(draft: Path, path: Path) -> None:
    """`path` exists, whole: link() makes it appear at once, and the first of several processes wins."""
    try:
        os.link(draft, path)
    except FileExistsError:
        return
