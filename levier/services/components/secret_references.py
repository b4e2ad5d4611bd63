"""Secrets in rendered text are references until the text goes to a host.

A reference is `@{secret:NAME:KEY:FORM}`. Rendering writes references, checkpoints and revisions hold them, and only
`resolved` puts values in their place, right before a file is written to a host.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
import shlex
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol
from urllib.parse import quote

from levier.domain.component import Component, FileFormat, SecretKind, SecretSpec
from levier.domain.errors import InvalidRequest
from levier.services.components.site_ca import ensure_authority, server_certificate

_REFERENCE = re.compile(r"@\{secret:(?P<name>[a-z0-9._-]+):(?P<key>[a-z0-9_]+):(?P<form>[a-z]+)\}")
MASK = "***"
_ALPHABET = string.ascii_letters + string.digits
_PASSWORD_LENGTH = 32


def _sql(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


_LINES = "lines"
"""The form of a value that may have several lines, such as a certificate."""
_FORMS: dict[str, Callable[[str], str]] = {
    _LINES: str,
    "plain": str,
    "url": lambda value: quote(value, safe=""),
    "shell": shlex.quote,
    "sql": _sql,
}


class ReadsSecrets(Protocol):
    """What resolving needs of a secret store."""

    def get(self, name: str) -> Mapping[str, str]:
        """The values of a secret. Raises NotFound."""
        ...


class MakesSecrets(ReadsSecrets, Protocol):
    """A secret store in which a secret can be made once."""

    def ensure(self, name: str, make: Callable[[], Mapping[str, str]]) -> Mapping[str, str]:
        """The values of the secret, which are those of the one `make` that was called if there was none."""
        ...


def reference(name: str, key: str, form: str) -> str:
    """The text that stands for a value of a secret. Raises InvalidRequest for an unknown form."""
    if form not in _FORMS:
        raise InvalidRequest(f"a secret cannot be written as {form!r}", hint=f"use one of {', '.join(_FORMS)}")
    return f"@{{secret:{name}:{key}:{form}}}"


def references(text: str) -> frozenset[str]:
    """Names of the secrets that `text` refers to."""
    return frozenset(match["name"] for match in _REFERENCE.finditer(text))


def masked(text: str) -> str:
    """`text` with *** for every secret."""
    return _REFERENCE.sub(MASK, text)


def resolved(text: str, store: ReadsSecrets, *, file_format: FileFormat = FileFormat.TEXT) -> str:
    """`text` with the values in the place of references; in an oslo file `$` is doubled, as its syntax asks for.

    Safe to repeat. Raises NotFound for a secret that is not stored, InvalidRequest for a value that no file can hold.
    """

    def value(match: re.Match[str]) -> str:
        values = store.get(match["name"])
        if match["key"] not in values:
            raise InvalidRequest(
                f"the secret {match['name']} has no {match['key']}",
                hint=f"delete it: levier secret delete {match['name']}",
            )
        clear = values[match["key"]]
        if match["form"] != _LINES and any(ord(each) < 0x20 for each in clear):
            raise InvalidRequest(f"the secret {match['name']} has line breaks", hint="store one line of text")
        text = _FORMS[match["form"]](clear)
        return text.replace("$", "$$") if file_format is FileFormat.OSLO else text

    return _REFERENCE.sub(value, text)


def ensure_secrets(
    components: Iterable[Component], store: MakesSecrets, *, public_hosts: Sequence[str] = ()
) -> tuple[str, ...]:
    """Every secret that the components bring is stored; those that exist stay as they are. Safe to repeat.

    `public_hosts` are the names and addresses that a certificate is made out to. Returns the secrets' names.
    """
    specs = {spec.name: spec for component in components for spec in component.secrets}
    certified = any(SecretKind.CERTIFICATE in spec.values.values() for spec in specs.values())
    # Before the others: a store makes one secret at a time.
    authority = ensure_authority(store) if certified else {}
    for name in sorted(specs):
        store.ensure(name, _maker(specs[name], authority, public_hosts))
    return tuple(sorted(specs))


def _maker(
    spec: SecretSpec, authority: Mapping[str, str], public_hosts: Sequence[str]
) -> Callable[[], Mapping[str, str]]:
    def value(kind: SecretKind) -> str:
        return server_certificate(authority, public_hosts) if kind is SecretKind.CERTIFICATE else _MAKERS[kind]()

    return lambda: {key: value(kind) for key, kind in spec.values.items()}


def _password() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(_PASSWORD_LENGTH))


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(os.urandom(32)).decode()


_MAKERS = {SecretKind.PASSWORD: _password, SecretKind.FERNET: _fernet_key}
