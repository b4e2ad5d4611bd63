"""Sealing: nothing readable without the key, nothing changed unnoticed, one key whoever makes it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levier.domain.errors import InvalidRequest
from levier.services.seal import KEY_BYTES, AesGcmSeal, key_in_file

KEY = bytes(range(KEY_BYTES))
SEAL = AesGcmSeal(KEY)


@given(st.binary(max_size=500))
def test_what_was_sealed_opens_again_and_shows_nothing(clear: bytes) -> None:
    sealed = SEAL.seal(clear)
    assert SEAL.open(sealed) == clear
    assert len(clear) < 4 or clear not in sealed
    assert SEAL.seal(clear) != sealed


@given(st.integers(min_value=0, max_value=30), st.integers(min_value=1, max_value=255))
def test_any_changed_byte_is_noticed(position: int, flip: int) -> None:
    sealed = bytearray(SEAL.seal(b"x"))
    position %= len(sealed)
    sealed[position] ^= flip
    with pytest.raises(InvalidRequest):
        SEAL.open(bytes(sealed))


def test_another_key_opens_nothing() -> None:
    with pytest.raises(InvalidRequest, match="another key"):
        AesGcmSeal(bytes(KEY_BYTES)).open(SEAL.seal(b"secret"))
    for sealed in (b"", b"\x01", b"\x01" * 12):
        with pytest.raises(InvalidRequest):
            SEAL.open(sealed)


def test_a_key_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        AesGcmSeal(b"short")


def test_key_file_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "seal.key"
    keys: list[bytes] = []
    threads = [threading.Thread(target=lambda: keys.append(key_in_file(path))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 16
    assert len(set(keys)) == 1
    assert len(keys[0]) == KEY_BYTES
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["seal.key"]


def test_key_file_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "seal.key"
    key_in_file(path)
    path.chmod(0o644)
    with pytest.raises(InvalidRequest, match="readable by others"):
        key_in_file(path)
