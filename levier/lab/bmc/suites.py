"""Cipher suites 3 and 17: the keyed digests and AES of RMCP+ (IPMI 2.0 sections 13.20 to 13.33)."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from levier.lab.bmc.wire import MalformedPacket

AES_BLOCK = 16


@dataclass(frozen=True, slots=True)
class CipherSuite:
    """One combination of algorithms. Numbers as in tables 13-17 to 13-19; sizes in bytes."""

    number: int
    authentication: int
    integrity: int
    confidentiality: int
    digest: Callable[..., hashlib._Hash]
    digest_size: int
    authcode_size: int

    def mac(self, key: bytes, data: bytes) -> bytes:
        """The whole keyed digest of `data`."""
        return hmac.new(key, data, self.digest).digest()

    def short_mac(self, key: bytes, data: bytes) -> bytes:
        """The keyed digest, cut to the size that this suite puts into packets."""
        return self.mac(key, data)[: self.authcode_size]


SUITE_3 = CipherSuite(3, 1, 1, 1, hashlib.sha1, 20, 12)
SUITE_17 = CipherSuite(17, 3, 4, 1, hashlib.sha256, 32, 16)
SUITES = (SUITE_3, SUITE_17)

SUITE_RECORDS = b"".join(
    bytes([0xC0, s.number, s.authentication, 0x40 | s.integrity, 0x80 | s.confidentiality]) for s in SUITES
)
"""The records that Get Channel Cipher Suites returns (section 22.15.1)."""


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """Keys of one session: integrity (K1) and the first half of K2, for AES."""

    integrity: bytes
    aes: bytes

    @classmethod
    def derive(cls, suite: CipherSuite, sik: bytes) -> SessionKeys:
        """K1 and K2 from the session integrity key: the constants are 20 bytes long in every suite (13.32)."""
        return cls(integrity=suite.mac(sik, b"\x01" * 20), aes=suite.mac(sik, b"\x02" * 20)[:AES_BLOCK])


def decrypt(key: bytes, payload: bytes) -> bytes:
    """The payload in clear: initialisation vector, AES-CBC-128, pad 1, 2, 3 …, pad length (13.29)."""
    if len(payload) < 2 * AES_BLOCK or len(payload) % AES_BLOCK:
        raise MalformedPacket("encrypted payload of an impossible length")
    decryptor = Cipher(algorithms.AES(key), modes.CBC(payload[:AES_BLOCK])).decryptor()
    clear = decryptor.update(payload[AES_BLOCK:]) + decryptor.finalize()
    pad = clear[-1]
    if pad >= AES_BLOCK:
        raise MalformedPacket("wrong pad length in an encrypted payload")
    return clear[: len(clear) - pad - 1]


def encrypt(key: bytes, clear: bytes) -> bytes:
    """The payload as it travels; see `decrypt`."""
    pad = -(len(clear) + 1) % AES_BLOCK
    padded = clear + bytes(range(1, pad + 1)) + bytes([pad])
    vector = os.urandom(AES_BLOCK)
    encryptor = Cipher(algorithms.AES(key), modes.CBC(vector)).encryptor()
    return vector + encryptor.update(padded) + encryptor.finalize()
