"""Secrets are taken out of what programs said before it is logged: they like to quote how they were configured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import quote, quote_plus

from levier.domain.errors import LevierError
from levier.services.components.secret_references import MASK
from levier.services.secrets import SecretStore

SHORTEST = 8
"""Shorter values are not masked: they stand in innocent words."""
NOT_SECRET = frozenset({"username", "public", "operation", "certificate", "id"})
"""Keys of secrets whose values anybody may know; without them messages could not name an operation or an account."""


class SecretMask:
    """Texts without the secrets that a store holds now, those given by operators too."""

    def __init__(self, store: SecretStore) -> None:
        self._store = store

    def __call__(self, text: str) -> str:
        """`text` with *** for each secret value of at least 8 characters, also where it is written as in URLs or JSON.

        Of a value with several lines each line counts. What a program cut in the middle is not known again. A secret
        that cannot be read is passed over: the text that tells why must not be lost. Safe to repeat.
        """
        # The longest first: one value may be part of another.
        for form in sorted({form for value in self._values() for form in _forms(value)}, key=len, reverse=True):
            text = text.replace(form, MASK)
        return text

    def _values(self) -> Iterator[str]:
        names: tuple[str, ...] = ()
        with suppress(OSError):
            names = self._store.names()
        for name in names:
            with suppress(LevierError, OSError, ValueError):
                yield from (value for key, value in self._store.get(name).items() if key not in NOT_SECRET)


def _forms(value: str) -> Iterator[str]:
    for line in value.splitlines():
        # Headings of PEM are in many a harmless text.
        if len(line.strip()) >= SHORTEST and not line.startswith("-----"):
            clear = line.strip()
            yield from (clear, quote(clear, safe=""), quote_plus(clear), json.dumps(clear)[1:-1])
