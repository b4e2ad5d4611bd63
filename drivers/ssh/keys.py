"""SSH keys as text: made, read and named by their fingerprint."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Iterable
from dataclasses import dataclass

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paramiko.pkey import UnknownKeyType

from levier.domain.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An ed25519 key pair; the private half is never shown by repr.

    `private_openssh` is unencrypted OpenSSH PEM text as sshd and `ssh -i` read it, `public_line` is `ssh-ed25519
    AAAA… comment`.
    """

    private_openssh: str
    public_line: str

    def __repr__(self) -> str:
        return f"KeyPair({self.public_line!r}, private=***)"


def generate_host_key(comment: str = "") -> KeyPair:
    """A new ed25519 key pair from the system's random source, fit for a host key or a login key.

    Every call makes another.     Raises InvalidRequest when `comment` holds a line break, which would end the public
    key line.
    """
    if "\n" in comment or "\r" in comment:
        raise InvalidRequest("the comment of an SSH key holds a line break", hint="Give a comment of one line.")
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return KeyPair(private.decode("ascii"), f"{public.decode('ascii')} {comment}".rstrip())


def parse_public_line(line: str) -> paramiko.PKey:
    """The public key of an OpenSSH line (`TYPE BASE64 [COMMENT]`). Raises InvalidRequest when it is none."""
    words = line.split()
    if len(words) < 2:
        raise InvalidRequest(
            f"{line[:40]!r} is no OpenSSH public key line", hint="Give it as `ssh-ed25519 AAAA… comment`."
        )
    try:
        return paramiko.PKey.from_type_string(words[0], base64.b64decode(words[1], validate=True))
    except (binascii.Error, ValueError, paramiko.SSHException, UnknownKeyType) as error:
        raise InvalidRequest(
            f"the SSH public key {words[0]} {words[1][:16]}… cannot be read: {error}",
            hint="Copy the whole line of the .pub file.",
        ) from error


def parse_private_key(pem: str) -> paramiko.PKey:
    """The ed25519 private key in OpenSSH PEM text. Raises InvalidRequest, never quoting the key, when it is none."""
    try:
        return paramiko.Ed25519Key(file_obj=io.StringIO(pem))
    except paramiko.PasswordRequiredException as error:
        raise InvalidRequest(
            "the SSH private key is encrypted with a passphrase",
            hint="Store it without one; the secret store encrypts it.",
        ) from error
    except (paramiko.SSHException, ValueError, IndexError) as error:
        # The library's text may quote key bytes: it is left out on purpose.
        raise InvalidRequest(
            "the SSH private key is no ed25519 key in OpenSSH format", hint="Make one with `ssh-keygen -t ed25519`."
        ) from error


def fingerprint(public_line: str) -> str:
    """`SHA256:…` of an OpenSSH public key line, as `ssh-keygen -l` shows it. Raises InvalidRequest when it is none."""
    return key_fingerprint(parse_public_line(public_line))


def key_fingerprint(key: paramiko.PKey) -> str:
    """`SHA256:…` without padding, the form that OpenSSH prints."""
    return str(key.fingerprint)


def describe(keys: Iterable[paramiko.PKey]) -> str:
    """`ssh-ed25519 SHA256:…, …`: several keys in words for a message."""
    return ", ".join(f"{key.get_name()} {key_fingerprint(key)}" for key in keys)
