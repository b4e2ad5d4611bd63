"""The default secret provider: one encrypted file a secret, next to one key file.

At rest there is no clear text: AES-256-GCM (NIST SP 800-38D), a fresh 96-bit nonce for every write, the secret's name
authenticated with it, so that no file can be passed off as another. Whoever has both directory and key file can read
everything: keep the key file elsewhere, or out of the backup (docs/decisions/0054).
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from levier.domain.errors import Conflict, InvalidRequest, NotFound
from levier.domain.problems import closest
from levier.domain.site_types import CREDENTIAL
from levier.services.atomic_file import create_file, replace_file

_MAGIC = b"levier-secret-1\n"
_KEY_PREFIX = "levier-key-1:"
_SUFFIX = ".secret"
_KEY_BYTES = 32
_KEY_ID_BYTES = 8
_NONCE_BYTES = 12
MAX_SECRET_BYTES = 64 * 1024


class Secret(Mapping[str, str]):
    """The values of one secret. Neither repr nor str shows them, so that no log does."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)

    def __getitem__(self, key: str) -> str:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Secret({', '.join(f'{key}=***' for key in sorted(self._values))})"


class SecretStore:
    """Secrets in a directory of their own; safe for any number of processes and threads at once.

    The key file is made with the first secret (mode 0600, `key_file` or `directory/key`) and never replaced: a store
    whose key is lost is reported, not silently begun anew.
    """

    def __init__(self, directory: Path, *, key_file: Path | None = None) -> None:
        self._directory = directory
        self._key_file = key_file if key_file is not None else directory / "key"

    def set(self, name: str, values: Mapping[str, str]) -> None:
        """The secret `name` consists of `values`, on disk and encrypted. Safe to repeat; replaces an earlier one.

        Raises InvalidRequest for a bad name or bad values, Conflict when the key is lost, exposed or another one.
        """
        _check_name(name)
        clear = _encoded(values)
        with self._locked():
            self._write(name, clear)

    def ensure(self, name: str, make: Callable[[], Mapping[str, str]]) -> Secret:
        """The values of the secret `name`, which are those of the one `make` that was called if there was none.

        Safe to repeat, and at the same time by any number of threads and processes: all get the same values. Raises as
        `set` and `get` do.
        """
        _check_name(name)
        if not self._path(name).exists():
            with self._locked():
                if not self._path(name).exists():
                    self._write(name, _encoded(make()))
        return self.get(name)

    def _write(self, name: str, clear: bytes) -> None:
        key = self._key(create=True)
        nonce = os.urandom(_NONCE_BYTES)
        sealed = AESGCM(key).encrypt(nonce, clear, _authenticated(name))
        replace_file(self._path(name), _MAGIC + _key_id(key) + nonce + sealed, mode=0o600)

    def get(self, name: str) -> Secret:
        """The values of the secret `name`. Safe to repeat.

        Raises NotFound with the way to store it, Conflict when it was encrypted with another key or was altered.
        """
        _check_name(name)
        try:
            content = self._path(name).read_bytes()
        except FileNotFoundError as error:
            match = closest(name, self.names())
            also = f" (did you mean {match!r}?)" if match else ""
            raise NotFound(f"there is no secret named {name!r}{also}", hint=_how_to_store(name)) from error
        return Secret(json.loads(self._decrypted(name, content)))

    def names(self) -> tuple[str, ...]:
        """The names of all secrets, sorted. Safe to repeat."""
        if not self._directory.is_dir():
            return ()
        found = (path.name.removesuffix(_SUFFIX) for path in self._directory.glob(f"*{_SUFFIX}"))
        return tuple(sorted(name for name in found if re.fullmatch(CREDENTIAL, name)))

    def delete(self, name: str) -> None:
        """There is no secret `name` any more. Raises NotFound when there was none, so a repeat is an error."""
        _check_name(name)
        with self._locked():
            try:
                self._path(name).unlink()
            except FileNotFoundError as error:
                raise NotFound(
                    f"there is no secret named {name!r}", hint="see the names: levier secret list"
                ) from error

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}{_SUFFIX}"

    def _decrypted(self, name: str, content: bytes) -> bytes:
        header = len(_MAGIC) + _KEY_ID_BYTES
        key_id, nonce = content[len(_MAGIC) : header], content[header : header + _NONCE_BYTES]
        if not content.startswith(_MAGIC) or len(nonce) < _NONCE_BYTES:
            raise Conflict(f"the file of secret {name!r} is damaged", hint=_how_to_store(name))
        key = self._key(create=False)
        if key_id != _key_id(key):
            message = f"secret {name!r} was encrypted with another key than {self._key_file}"
            raise Conflict(message, hint=f"put back the key file it was stored with, or {_how_to_store(name)}")
        try:
            return AESGCM(key).decrypt(nonce, content[header + _NONCE_BYTES :], _authenticated(name))
        except InvalidTag as error:
            raise Conflict(f"the file of secret {name!r} was altered", hint=_how_to_store(name)) from error

    def _key(self, *, create: bool) -> bytes:
        """The key. With `create`, under the lock, a store without secrets gets a new one."""
        try:
            status = self._key_file.stat()
            text = self._key_file.read_text("ascii", errors="replace").strip()
        except FileNotFoundError as error:
            if create and not self.names():
                return self._new_key()
            hint = "put back the key file, or delete the secrets and store them again (levier secret set)"
            raise Conflict(f"the key file {self._key_file} of the secrets is missing", hint=hint) from error
        if stat.S_IMODE(status.st_mode) & 0o077:
            message = f"the key file {self._key_file} can be read by others (mode {stat.S_IMODE(status.st_mode):04o})"
            raise Conflict(message, hint=f"chmod 600 {self._key_file}, and change the passwords if others had access")
        return self._parsed_key(text)

    def _parsed_key(self, text: str) -> bytes:
        encoded = text.removeprefix(_KEY_PREFIX)
        with contextlib.suppress(binascii.Error, ValueError):
            key = base64.b64decode(encoded, validate=True)
            if encoded != text and len(key) == _KEY_BYTES:
                return key
        raise Conflict(f"{self._key_file} is no key file of Levier", hint="put back the key file from the backup")

    def _new_key(self) -> bytes:
        self._key_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = f"{_KEY_PREFIX}{base64.b64encode(os.urandom(_KEY_BYTES)).decode()}\n"
        # Another store that shares the key file may have been first: its key is the key.
        create_file(self._key_file, text.encode(), mode=0o600)
        return self._key(create=False)

    def _remove_leftovers(self) -> None:
        """No temporary file of a writer that was killed is left; only under the lock, when there is no other writer."""
        for pattern in (f".*{_SUFFIX}.*", f".{self._key_file.name}.*"):
            for leftover in self._directory.glob(pattern):
                leftover.unlink()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """This thread alone changes the store; the kernel frees the lock when its process dies."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            self._remove_leftovers()
            yield
        finally:
            os.close(descriptor)


def _check_name(name: str) -> None:
    if not re.fullmatch(CREDENTIAL, name):
        hint = "use 1 to 63 lower-case letters, digits, dots, underscores and hyphens"
        raise InvalidRequest(f"{name!r} cannot be the name of a secret", hint=hint)


def _encoded(values: Mapping[str, str]) -> bytes:
    """The values as the bytes to encrypt. Messages name keys and never values."""
    if not values:
        raise InvalidRequest("a secret needs at least one value", hint="give for instance username and password")
    for key, value in values.items():
        if not isinstance(key, str) or not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", key):
            raise InvalidRequest("a key of the secret is not a word", hint="use letters, digits, '_', '.' and '-'")
        if not isinstance(value, str):
            raise InvalidRequest(f"the value of {key!r} is not a text", hint="give every value as a text")
    try:
        clear = json.dumps(dict(values), sort_keys=True, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InvalidRequest(
            "a value is not Unicode text", hint="encode binary values, for instance as base64"
        ) from None
    if len(clear) > MAX_SECRET_BYTES:
        raise InvalidRequest("the secret is too large", hint=f"keep it below {MAX_SECRET_BYTES // 1024} KiB")
    return clear


def _authenticated(name: str) -> bytes:
    return _MAGIC + name.encode()


def _key_id(key: bytes) -> bytes:
    """Tells keys apart without saying anything of the key: a prefix of a digest of 256 random bits."""
    return hashlib.sha256(b"levier-key-id" + key).digest()[:_KEY_ID_BYTES]


def _how_to_store(name: str) -> str:
    return f"store it: levier secret set {name} --username USER"
